// look.js opens the status page of a node in Chromium and says what is wrong with it.
// It reads one order a line from standard input, as JSON, and answers each with one
// line: {"faults": [...], "figures": N}. The Go test that starts it causes the faults of
// the node, and knows what the page must say of them.

import { createInterface } from "node:readline";
import { existsSync, mkdirSync } from "node:fs";
import { chromium } from "playwright";
import { compare, unmarked } from "./figures.js";
import { accessible, fits, inView, colours } from "./rules.js";

const sizes = { phone: { width: 360, height: 740 }, wide: { width: 1200, height: 900 } };

// open starts one page in a window of its own. Requests that would leave the host of
// the node end here, and are faults; so is whatever the browser complains of.
async function open(browser, order, size, colorScheme, faults) {
  const context = await browser.newContext({ viewport: sizes[size], colorScheme, locale: "en-GB", deviceScaleFactor: size === "phone" ? 2 : 1 });
  const page = await context.newPage();
  const where = `${size}, ${colorScheme}`;
  await context.route("**/*", (route) => {
    if (new URL(route.request().url()).origin === new URL(order.url).origin) return route.continue();
    faults.push(`${where}: asks ${route.request().url()}`);
    return route.abort();
  });
  page.on("pageerror", (e) => faults.push(`${where}: ${e}`));
  page.on("console", (m) => {
    const expected = /status of 401|ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/;
    if (m.type() === "error" && !expected.test(m.text())) faults.push(`${where}: ${m.text()}`);
  });
  await page.goto(order.url);
  return page;
}

// logIn gives the token as a person does; before that the page shows nothing.
async function logIn(page, order, faults) {
  if (!order.token) return;
  if (await page.locator("#state").count() > 0) faults.push("the page is there without the token");
  await accessible(page, "the question for the token", faults);
  await page.fill("#token", "not-the-right-token");
  await page.click("button");
  if (await page.locator("#token").count() === 0) faults.push("a wrong token opens the page");
  await page.fill("#token", order.token);
  await page.click("button");
}

// shown waits until the page has shown n more reports.
async function shown(page, n) {
  const before = await page.evaluate(() => Number(document.documentElement.dataset.shown ?? 0));
  await page.waitForFunction((least) => Number(document.documentElement.dataset.shown ?? 0) >= least, before + n, { timeout: 20_000 });
}

// frozen holds one real report still, so that the page can be compared with it.
async function frozen(page, order) {
  const headers = order.token ? { Authorization: `Bearer ${order.token}` } : {};
  const body = await (await page.request.get(`${order.url}api/status`, { headers })).text();
  await page.route("**/api/status", (route) => route.fulfill({ body, contentType: "application/json" }));
  await shown(page, 2);
  return JSON.parse(body);
}

async function shoot(page, order, name) {
  const shot = order.shots?.[name];
  if (!shot) return;
  mkdirSync(order.dir, { recursive: true });
  await page.evaluate(() => scrollTo(0, 0));
  await page.screenshot({ path: `${order.dir}/${shot}`, fullPage: name.startsWith("wide") });
}

// check looks at the page in one size and one scheme.
async function check(browser, order, size, scheme, answer) {
  const { faults } = answer;
  const page = await open(browser, order, size, scheme, faults);
  const where = `${size}, ${scheme}`;
  await logIn(page, order, faults);
  await shown(page, 1);
  const report = await frozen(page, order);
  if (report.colour !== order.colour) faults.push(`the node is ${report.colour}, not ${order.colour}: ${report.reasons.join("; ")}`);
  answer.figures += await compare(page, report, where, faults);
  await unmarked(page, where, faults);
  await colours(page, report, where, faults);
  for (const word of order.says ?? []) {
    if (!(await page.innerText("body")).toLowerCase().includes(word.toLowerCase())) faults.push(`${where}: the page does not say "${word}"`);
  }
  await fits(page, sizes[size].width, where, faults);
  await inView(page, where, faults);
  await accessible(page, where, faults);
  await shoot(page, order, `${size}-${scheme}`);
  await page.context().close();
}

// silent opens the page of a node that answers, tells the test, and expects words when
// the node is gone.
async function silent(browser, order, lines, answer) {
  const page = await open(browser, order, "phone", "light", answer.faults);
  await logIn(page, order, answer.faults);
  await shown(page, 2);
  process.stdout.write("open\n");
  await lines.next(); // the node is gone
  await page.waitForSelector("body.gone #gone:not([hidden])", { timeout: 20_000 });
  const text = await page.innerText("#gone");
  if (!text.startsWith("The node does not answer.")) answer.faults.push(`the page of a silent node says ${text}`);
  await fits(page, sizes.phone.width, "silent", answer.faults);
  await accessible(page, "silent", answer.faults);
  await shoot(page, order, "phone-light");
  await page.context().close();
}

async function main() {
  const own = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath: existsSync(own) ? own : undefined, args: ["--no-sandbox"] });
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const order = JSON.parse(line.value);
    const answer = { faults: [], figures: 0 };
    try {
      if (order.silent) await silent(browser, order, lines, answer);
      else for (const look of order.looks) await check(browser, order, ...look.split("-"), answer);
    } catch (e) {
      answer.faults.push(String(e));
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  await browser.close();
}

await main();
