/**
 * The script of the pages: it shows what has changed, stops while nobody looks, and keeps what was
 * done from being told again.
 * @module
 */

/** Served as it is; without it the numbers stand still, and a reload tells again what was done. */
export const SCRIPT = `"use strict";
(() => {
  const address = new URL(location.href);
  if (address.searchParams.has("done")) { // said once: it is not done again by looking again
    address.searchParams.delete("done");
    address.searchParams.delete("count");
    history.replaceState(null, "", address);
  }
  const section = document.querySelector("[data-live]");
  if (!section) return;
  const status = document.getElementById("live");
  let source, again;

  const say = (text) => {
    if (status.textContent !== text) status.textContent = text;
  };
  const missed = new Map();
  const show = (id, markup) => {
    const element = document.getElementById(id);
    missed.delete(id);
    if (element?.contains(document.activeElement)) missed.set(id, markup);
    else if (element) element.innerHTML = markup;
  };
  const catchUp = () => {
    for (const [id, markup] of [...missed]) show(id, markup);
  };
  const close = () => {
    clearTimeout(again);
    source?.close();
  };
  const open = () => {
    close();
    source = new EventSource(section.dataset.live);
    source.onmessage = ({ data }) => {
      say("Live");
      for (const [id, markup] of Object.entries(JSON.parse(data))) show(id, markup);
    };
    source.addEventListener("trouble", ({ data }) => say(data));
    source.onerror = () => {
      say("Connecting again");
      if (source.readyState === EventSource.CLOSED) again = setTimeout(open, 5000);
    };
  };

  document.addEventListener("focusout", () => setTimeout(catchUp)); // once the focus is elsewhere
  document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
  addEventListener("pagehide", close);
  addEventListener("pageshow", ({ persisted }) => persisted && open());
  if (!document.hidden) open();
})();
`;

/** The sign of the browser's tab. */
export const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">
<rect width="16" height="16" rx="3.5" fill="#2b63c4"/>
<path d="M4 5h8M4 8h8M4 11h4" stroke="#fff" stroke-width="1.6" stroke-linecap="round"/>
</svg>
`;
