import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Address, FieldValue, html } from "../dashboard_html.ts";
import { fc } from "./_properties.ts";

const INVISIBLE = /(?!\n)[\p{Cc}\p{Cf}\p{Cs}]/u;

describe("html", () => {
  it("escapes whatever stands in a text or between quotes, and shows what is invisible", () => {
    const text = `<script>"'&\u202e\u0000\u001b[31m\n`;
    const shown = "&lt;script&gt;&quot;&#39;&amp;\\u202e\\x00\\x1b[31m\n";
    assert.equal(html`<p title="${text}">${text}</p>`.text, `<p title="${shown}">${shown}</p>`);
  });

  it("lets nothing out of its place, whatever it is", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
      const { text: markup } = html`<p title="${text}">${[text, html`<b>${text}</b>`]}</p>`;
      const inner = /^<p title="([^"<>]*)">([^<>"]*)<b>([^<>"]*)<\/b><\/p>$/.exec(markup);
      assert.ok(inner, markup);
      assert.doesNotMatch(markup, INVISIBLE);
    }));
  });

  it("shows nothing for what is not there, and 0 for 0", () => {
    assert.equal(html`${null}${undefined}${false}${""}${0}${[1, null, [2]]}`.text, "012");
  });

  it("keeps the value of a form's field as it is", () => {
    const value = new FieldValue('a\u202e"<');
    assert.equal(html`<input value="${value}">`.text, '<input value="a\u202e&quot;&lt;">');
  });

  it("takes nothing but addresses of its own in a link, and encodes what is in them", () => {
    const address = new Address("/jobs", { id: 'a"&=#/../%\u202e', empty: "", none: undefined });
    assert.equal(
      html`<a href="${address}">`.text,
      '<a href="/jobs?id=a%22%26%3D%23%2F..%2F%25%E2%80%AE">',
    );
    for (const attribute of ["href", "src", "action", "formaction", "data-live"]) {
      const strings = [`<a ${attribute}="`, '">'];
      const template = Object.assign(strings, { raw: strings });
      assert.throws(() => html(template, "javascript:alert(1)"), TypeError);
    }
    assert.throws(() => html`<p title="${address}">`, TypeError);
  });

  it("refuses a value without quotes around it", () => {
    assert.throws(() => html`<p title=${"a onclick=b"}>`, {
      name: "TypeError",
      message: "An attribute needs quotes around its value: <p title=",
    });
  });
});
