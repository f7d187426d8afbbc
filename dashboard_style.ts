/**
 * The stylesheet of the pages: light and dark, from phone to wide screen.
 * @module
 */

/** Served as it is. Text has a contrast of 4.5 to 1 at least, in both themes. */
export const STYLE = `:root {
  color-scheme: light dark;
  --ground: #f6f7f8; --panel: #fff; --ink: #1a1f26; --soft: #57616d; --line: #d9dee4;
  --accent: #2459b3; --on-accent: #fff; --good: #1d7044; --bad: #b3261e; --warn: #8a5300;
  --quiet: #8e99a6; --tint: #e8eefa; --bad-tint: #fcebe9; --warn-tint: #fbf0dc; --good-tint: #e3f3ea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #12151a; --panel: #1a1e25; --ink: #e5e9ee; --soft: #9ba6b3; --line: #2d343e;
    --accent: #86b2ff; --on-accent: #0c1524; --good: #6cc794; --bad: #ff8d83; --warn: #e7b25c;
    --quiet: #6b7683; --tint: #1d2a42; --bad-tint: #3a1f1e; --warn-tint: #362a15; --good-tint: #173226;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
code, pre { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; unicode-bidi: isolate; }
h1 { font-size: 1.35rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
h3 { font-size: .875rem; margin: .75rem 0 .35rem; }
p { margin: .35rem 0; }
ul, ol { margin: 0; padding: 0; list-style: none; }
a { color: var(--accent); text-underline-offset: .15em; text-decoration-thickness: 1px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
main:focus { outline: none; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: -99rem; top: 0; padding: .5rem 1rem; background: var(--panel); z-index: 1; }
.skip:focus { left: .5rem; }

body > header { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem 1.25rem; padding: .4rem clamp(.75rem, 3vw, 2rem);
  background: var(--panel); border-bottom: 1px solid var(--line); }
.brand { font-weight: 700; font-size: 1.1rem; letter-spacing: -.01em; color: var(--ink); text-decoration: none; }
header nav ul { display: flex; gap: .15rem; }
header nav a { display: block; padding: .4rem .6rem; border-radius: 5px; color: var(--soft); text-decoration: none; }
header nav a:hover { color: var(--ink); background: var(--ground); }
header nav a[aria-current] { color: var(--ink); background: var(--tint); font-weight: 600; }
.queue { display: flex; align-items: center; gap: .4rem; margin: 0 0 0 auto; color: var(--soft); min-width: 0; }
.queue code { color: var(--ink); overflow-wrap: anywhere; }
.queue select { max-width: 16rem; min-width: 0; }
main, footer { max-width: 84rem; margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem); }
footer { color: var(--soft); font-size: .8125rem; }

.head { display: flex; flex-wrap: wrap; align-items: center; gap: .35rem .75rem; margin-bottom: .75rem; min-height: 2.1rem; }
.head > p { margin: 0; }
.actions { display: flex; flex-wrap: wrap; gap: .5rem; }
.note, .more, .live { color: var(--soft); }
.head > .live { margin-left: auto; font-size: .8125rem; }
.live:not(:empty)::before { content: ""; display: inline-block; width: .5rem; height: .5rem; margin-right: .4rem; border-radius: 50%; background: currentColor; }
.trail { margin-bottom: .35rem; }
.id { margin: -.35rem 0 .75rem; overflow-wrap: anywhere; }
.id code { color: var(--soft); }
.notice, .alert { padding: .55rem .8rem; border-radius: 6px; border-left: 4px solid var(--good); background: var(--good-tint); margin: 0 0 .75rem; overflow-wrap: anywhere; }
.alert { border-color: var(--bad); background: var(--bad-tint); }
.nothing { color: var(--soft); padding: 1.5rem 1rem; text-align: center; }
p.nothing { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0; }
.bad { color: var(--bad); }

button, .button, input, select { font: inherit; font-size: .875rem; color: var(--ink); background: var(--panel); border: 1px solid var(--quiet); border-radius: 5px; padding: .28rem .7rem; min-height: 2rem; }
button, .button { cursor: pointer; font-weight: 500; }
button:hover, .button:hover { border-color: var(--ink); }
.primary { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
.danger { background: var(--bad); border-color: var(--bad); color: var(--panel); }
input, select { padding: .28rem .5rem; max-width: 100%; }
::placeholder { color: var(--soft); opacity: 1; }
.actions:has(.danger) { align-items: flex-start; }
.head:has(.confirm[open]) { align-items: flex-start; }
.confirm > summary { display: inline-flex; align-items: center; list-style: none; }
.confirm > summary::-webkit-details-marker { display: none; }
.confirm[open] > div { margin-top: .4rem; padding: .6rem .8rem; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; max-width: 30rem; }
.confirm p { margin: 0 0 .5rem; }
.head:has(#state .paused) form:has(.pause), .head:has(#state .open) form:has(.resume) { display: none; }

.badge { display: inline-flex; align-items: center; gap: .4em; padding: .05rem .5rem; border-radius: 99px; font-size: .8125rem; font-weight: 500; white-space: nowrap; background: var(--tint); color: var(--ink); }
.badge::before { content: ""; width: .5em; height: .5em; border-radius: 50%; background: var(--soft); }
.badge.in_progress::before { background: var(--accent); }
.badge.queued::before { background: transparent; box-shadow: inset 0 0 0 2px var(--accent); }
.badge.deferred::before { background: transparent; box-shadow: inset 0 0 0 2px var(--soft); }
.badge.complete, .badge.open { background: var(--good-tint); color: var(--good); }
.badge.complete::before, .badge.open::before { background: var(--good); }
.badge.failed { background: var(--bad-tint); color: var(--bad); }
.badge.failed::before { background: var(--bad); border-radius: 0; transform: rotate(45deg); }
.badge.paused, .badge.silent { background: var(--warn-tint); color: var(--warn); }
.badge.paused::before, .badge.silent::before { background: var(--warn); border-radius: 1px; }

.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: 1px; background: var(--panel); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.tile { padding: .6rem .8rem; box-shadow: 0 0 0 1px var(--line); }
.tile .name, .tile .more { display: block; font-size: .8125rem; color: var(--soft); }
.tile strong { display: block; font-size: 1.5rem; line-height: 1.25; font-weight: 600; letter-spacing: -.01em; }
.tile .more { min-height: 1.45em; }
.tile.bad strong { color: var(--bad); }
.tile.warn strong { color: var(--warn); }

.plots { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: .75rem; margin-top: .75rem; }
.plots > * { grid-column: span 2; }
.plots > :nth-child(-n+2) { grid-column: span 3; }
.plot { margin: 0; padding: .6rem .9rem .4rem; background: var(--panel); border: 1px solid var(--line); border-radius: 8px;
  display: grid; grid-template-columns: auto minmax(0, 1fr); grid-template-rows: auto 8rem auto; gap: 0 .5rem; }
.plot figcaption { grid-column: 1 / -1; display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem; margin-bottom: .75rem; }
.plot h3 { margin: 0; }
.plot svg { display: block; width: 100%; height: 8rem; overflow: visible; }
.scale { display: flex; flex-direction: column; justify-content: space-between; margin: -.6rem 0; min-width: 2.6rem; text-align: right; white-space: nowrap; }
.scale, .span { font-size: .75rem; line-height: 1.2rem; color: var(--soft); }
.span { grid-column: 2; display: flex; justify-content: space-between; margin: .2rem 0 0; }
.plot path { vector-effect: non-scaling-stroke; }
.grid { stroke: var(--line); stroke-width: 1; fill: none; shape-rendering: crispEdges; }
.line { fill: none; stroke-width: 1.8; stroke-linecap: round; stroke-linejoin: round; }
.bar { stroke: none; }
.area { stroke: none; opacity: .18; }
.hit { y: 0; height: 100px; fill: transparent; }
.hit:hover { fill: var(--ink); fill-opacity: .07; }
.legend { display: flex; gap: .2rem .8rem; font-size: .8125rem; color: var(--soft); }
.sign { display: inline-block; width: .75rem; height: .5rem; margin-right: .35rem; border-radius: 1px; background: currentColor; }
.complete { fill: var(--good); } .sign.complete { color: var(--good); }
path.failed { fill: var(--bad); } .sign.failed { color: var(--bad); }
path.aborted { fill: var(--warn); } .sign.aborted { color: var(--warn); }
path.retried { fill: var(--quiet); } .sign.retried { color: var(--quiet); }
.area.due { fill: var(--accent); }
.line.due { stroke: var(--accent); } .sign.due { color: var(--accent); }
.line.progress { stroke: var(--good); stroke-dasharray: 5 3; } .sign.progress { color: var(--good); height: 2px; vertical-align: middle; }
.line.p50 { stroke: var(--accent); stroke-width: 2.2; } .sign.p50 { color: var(--accent); height: 3px; vertical-align: middle; }
.line.p90 { stroke: var(--accent); stroke-width: 1.2; } .sign.p90 { color: var(--accent); height: 1px; vertical-align: middle; }
.line.p99 { stroke: var(--warn); stroke-width: 1.5; stroke-dasharray: 4 3; } .sign.p99 { color: var(--warn); height: 2px; vertical-align: middle; }
details > summary { cursor: pointer; color: var(--soft); }

.scroll { overflow: auto; background: var(--panel); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .42rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover { background: color-mix(in srgb, var(--tint) 45%, transparent); }
thead th { position: sticky; top: 0; background: var(--panel); font-size: .8125rem; font-weight: 500; color: var(--soft); white-space: nowrap; }
tbody th { font-weight: 400; overflow-wrap: anywhere; min-width: 13.5rem; }
th code { overflow-wrap: anywhere; }
tbody th > a { text-decoration: none; }
tbody th > a:hover { text-decoration: underline; }
th strong { font-weight: 600; }
th strong + code, tbody th > code { display: block; color: var(--soft); }
th a:hover code { color: inherit; }
.number { text-align: right; white-space: nowrap; }
.when { white-space: nowrap; }
.cut { width: 30%; max-width: 0; }
.cut code { display: block; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.running a { text-decoration: none; }
.names { margin-top: .2rem; }
.times { white-space: nowrap; }

.tabs ul { display: flex; flex-wrap: wrap; gap: .15rem; border-bottom: 1px solid var(--line); margin-bottom: .75rem; }
.tabs a { display: block; padding: .4rem .7rem; color: var(--soft); text-decoration: none; border-bottom: 2px solid transparent; margin-bottom: -1px; }
.tabs a:hover { color: var(--ink); }
.tabs a[aria-current] { color: var(--ink); border-color: var(--accent); font-weight: 600; }
.count { color: var(--soft); font-weight: 400; margin-left: .2rem; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center; margin-bottom: .75rem; }
.filters label { display: flex; align-items: center; gap: .4rem; color: var(--soft); }
.filters + .confirm { margin-bottom: .75rem; }
.paging { display: flex; gap: 1rem; margin-top: .75rem; }

.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 0 2rem; }
.columns h2 { margin-top: .75rem; }
.timeline li { position: relative; padding: 0 0 .7rem 1.4rem; }
.timeline li::before { content: ""; position: absolute; left: .2rem; top: .42rem; width: .6rem; height: .6rem; border-radius: 50%; background: var(--quiet); z-index: 1; }
.timeline li:not(:last-child)::after { content: ""; position: absolute; left: .45rem; top: .6rem; bottom: -.4rem; width: 2px; background: var(--line); }
.timeline .good::before { background: var(--good); }
.timeline .bad { color: inherit; }
.timeline .bad::before { background: var(--bad); border-radius: 0; transform: rotate(45deg); }
.timeline .open::before { background: var(--ground); box-shadow: inset 0 0 0 2px var(--accent); }
.step { display: inline-block; min-width: 6rem; font-weight: 600; }
.facts { margin: 0; }
.facts div { display: flex; gap: .5rem; padding: 0 0 .45rem; }
.facts dt { min-width: 6rem; color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: .35rem 0; padding: .7rem .9rem; max-height: 32rem; overflow: auto; background: var(--panel); border: 1px solid var(--line); border-radius: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
.error { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow: auto; }
.error strong { color: var(--bad); }
progress { width: min(24rem, 60%); height: .6rem; accent-color: var(--accent); }

@media (max-width: 64rem) { .plots > :nth-child(n) { grid-column: span 3; } .plots > :first-child { grid-column: span 6; } }
@media (max-width: 44rem) {
  .plots > :nth-child(n) { grid-column: span 6; }
  .tile:last-child:nth-child(odd) { grid-column: span 2; }
  .wide { display: none; }
  th, td { padding: .42rem .55rem; }
  tbody th { min-width: 8rem; }
  body > header { gap: .1rem .6rem; }
  .queue { margin-left: 0; width: 100%; }
  header nav { margin-left: -.35rem; }
  header nav a { padding: .45rem .5rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .filters label { width: 100%; justify-content: space-between; }
  .filters input, .filters select { flex: 0 1 70%; }
  button, .button, input, select { min-height: 2.5rem; }
  .timeline .more { display: block; }
}
@media (prefers-reduced-motion: no-preference) { a, button, .button { transition: color .12s, background-color .12s, border-color .12s; } }
@media (forced-colors: active) { .badge { border: 1px solid; } }
`;
