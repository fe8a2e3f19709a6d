// What a page must be whatever the node says: of the right colour, no wider than the
// screen, with its four figures in view, and without a serious fault for people who
// cannot see it well.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// accessible adds what axe calls serious or critical.
export async function accessible(page, where, faults) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  if (found.passes.length < 10) faults.push(`${where}: axe looked at next to nothing`);
  for (const v of found.violations) {
    if (v.impact === "serious" || v.impact === "critical") faults.push(`${where}: axe: ${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join("; ")}`);
  }
}

// colours compares the word, the colour it has, and the rule's name.
export async function colours(page, report, where, faults) {
  const is = await page.evaluate((name) => {
    const probe = document.body.appendChild(document.createElement("i"));
    probe.style.color = `var(--${name})`;
    const want = getComputedStyle(probe).color;
    probe.remove();
    const h1 = document.querySelector("h1");
    return { word: h1.textContent, attribute: document.documentElement.dataset.colour, got: getComputedStyle(h1).color, want, title: document.title };
  }, report.colour);
  if (is.word !== report.colour || is.attribute !== report.colour || is.got !== is.want || !is.title.includes(report.colour)) {
    faults.push(`${where}: the node is ${report.colour}, the page ${JSON.stringify(is)}`);
  }
}

// fits finds what is wider than the screen.
export async function fits(page, width, where, faults) {
  const wide = await page.evaluate((w) => {
    const out = [...document.querySelectorAll("body *")].filter((e) => {
      const box = e.getBoundingClientRect();
      return box.width > 0 && (box.right > w + 0.5 || box.left < -0.5) && !e.closest("svg, .u-wrap, legend");
    });
    return { scroll: document.documentElement.scrollWidth, out: out.map((e) => e.outerHTML.slice(0, 80)) };
  }, width);
  if (wide.scroll > width || wide.out.length > 0) faults.push(`${where}: ${wide.scroll} px wide on ${width}; ${wide.out.join(" ")}`);
}

// inView scrolls to the end and looks for the four figures that should be 0.
export async function inView(page, where, faults) {
  await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
  const hidden = await page.evaluate(() => [...document.querySelectorAll(".tallies dd")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.top < 0 || box.bottom > innerHeight || box.width === 0;
  }).length);
  const count = await page.locator(".tallies dd").count();
  if (count !== 4 || hidden > 0) faults.push(`${where}: ${hidden} of ${count} totals are out of view at the end of the page`);
}
