// The status page: asks the node again and again and shows what it says. All figures
// come from /api/status; an element says with data-path which one it is for.

import { at, fill, formats } from "./format.js";
import { draw } from "./picture.js";
import { Charts } from "./charts.js";

const askEvery = 1500; // ms
const patience = 4500; // ms without an answer until the page says so
const dayEvery = 60_000; // ms: a step of the chart of a day

const charts = new Charts();
let last; // the report shown
let lastAt = performance.now();
let dayAt = 0;

const by = (id) => document.getElementById(id);

// get returns the JSON at path, or throws an Error with a sentence.
async function get(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(patience) });
  if (answer.status === 401) throw new Error("The node asks for the token again: reload this page.");
  if (!answer.ok) throw new Error(`The node answers, but not with its status: ${answer.statusText}.`);
  return answer.json();
}

function show(report) {
  for (const e of document.querySelectorAll("[data-path]")) fill(e, report);
  for (const e of document.querySelectorAll("[data-if]")) e.hidden = !at(report, e.dataset.if);
  document.documentElement.dataset.colour = report.colour;
  document.title = `${report.node}: ${report.colour}`;
  showReasons(report);
  showLog(report.log);
  showLife(report.flash);
  by("clock").textContent = report.log.clock_synced ? "The clock is synchronised." : "The clock is not synchronised.";
  draw(by("picture"), by("caption"), report);
}

// showReasons gives each reason its sentence, or says that there is none.
function showReasons(report) {
  by("well").hidden = report.reasons.length > 0;
  by("well").textContent = "Devices are served, and what they send goes on to Kafka.";
  const list = by("reasons");
  while (list.children.length > report.reasons.length) list.lastChild.remove();
  report.reasons.forEach((_, i) => {
    const item = list.children[i] ?? list.appendChild(document.createElement("li"));
    item.dataset.path = `reasons.${i}`;
    item.dataset.as = "sentence";
    const text = formats.sentence(report.reasons[i]);
    if (item.textContent !== text) item.textContent = text;
  });
}

function showLog(log) {
  const all = Math.min(log.max_bytes, log.used_bytes + log.free_bytes) || 1; // the disk may never have had more
  by("fill").value = Math.max(0, Math.min(1, 1 - log.free_bytes / all));
  const words = log.refusing ? "There is no room: devices are told to wait."
    : log.drops_oldest && log.untold_records > 0 ? "Full: the oldest records make room for new ones."
    : log.filling ? "What is not in Kafka grows."
    : "Not filling.";
  by("room").textContent = words;
}

// showLife says how long a new card would last, once that can be said.
function showLife(flash) {
  const early = 15 * 60; // seconds: before that a rate says nothing of years
  const e = by("life");
  delete e.dataset.path;
  if (!flash.endurance_bytes) e.textContent = "Not known: set [log] endurance.";
  else if (flash.window_seconds < early || !flash.life_years) e.textContent = "Too early to say.";
  else {
    e.dataset.path = "flash.life_years";
    e.dataset.as = "years";
    e.textContent = formats.years(flash.life_years);
  }
}

// silent says in words that the node does not answer, and greys out what it said last.
function silent(error) {
  if (performance.now() - lastAt < patience && last) return;
  document.body.classList.add("gone");
  const why = error instanceof TypeError || error.name === "TimeoutError" ? "The node does not answer." : error.message;
  const rest = last ? " What stands below is what it said last. Devices keep what they have no acknowledgement for."
    : " Is it running? This page asks again by itself.";
  const e = by("gone");
  if (e.textContent !== why + rest) e.textContent = why + rest;
  e.hidden = false;
}

function answered() {
  lastAt = performance.now();
  document.body.classList.remove("gone", "new");
  by("gone").hidden = true;
}

async function ask() {
  try {
    const report = await get("api/status");
    last = report;
    answered();
    show(report);
    charts.add(report);
    if (performance.now() - dayAt > dayEvery || dayAt === 0) {
      charts.load(await get("api/history"), dayAt === 0);
      dayAt = performance.now();
    }
    document.documentElement.dataset.shown = String(Number(document.documentElement.dataset.shown ?? 0) + 1);
  } catch (error) {
    silent(error);
  }
  setTimeout(ask, askEvery);
}

for (const e of document.querySelectorAll("input[name=span]")) {
  e.addEventListener("change", () => charts.choose(e.value));
}
addEventListener("resize", () => last && draw(by("picture"), by("caption"), last));
ask();
