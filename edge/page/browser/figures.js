// Every figure of the page against the JSON it was made of. This knows nothing of how
// the page writes them: it reads the text back.

const units = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, days: 1, hours: 1 / 24, years: 1 };

// Figures that a page without them is not the page.
const required = [
  "colour", "node", "totals.lost", "totals.twice", "totals.refused", "totals.dead_letters", "rates.in", "rates.out", "uplink.waiting", "uplink.state",
  "uplink.sent", "mqtt.connections", "mqtt.durable.0", "mqtt.durable.1", "mqtt.durable.2", "log.ack_p50_ms", "log.ack_p99_ms", "log.flush_p99_ms",
  "log.used_bytes", "log.max_bytes", "log.free_bytes", "flash.bytes", "started", "version",
];

const at = (value, path) => path.split(".").reduce((v, key) => v?.[key], value);

// compare returns how many figures were compared.
export async function compare(page, report, where, faults) {
  const shown = await page.evaluate(() => [...document.querySelectorAll("[data-path]")]
    .filter((e) => !e.closest("[hidden]"))
    .map((e) => ({ path: e.dataset.path, as: e.dataset.as, text: e.textContent })));
  for (const { path, as, text } of shown) {
    const value = at(report, path);
    if (value === undefined || !equal(as, text, value)) faults.push(`${where}: ${path} is ${JSON.stringify(value)}, and the page says "${text}" (${as})`);
  }
  const paths = new Set(shown.map((s) => s.path));
  for (const path of [...required, ...report.reasons.map((_, i) => `reasons.${i}`)]) {
    if (!paths.has(path)) faults.push(`${where}: ${path} is not on the page`);
  }
  (report.gateways?.nodes ?? []).forEach((n, i) => {
    if (n.standing === "member" && !paths.has(`gateways.nodes.${i}.records`)) faults.push(`${where}: gateway ${n.name} is not in the picture`);
  });
  return shown.length;
}

function equal(as, text, value) {
  switch (as) {
    case "text": return text === String(value);
    case "list": return text === value.join(", ");
    case "sentence": return text.replace(/\.$/, "").toLowerCase() === value.replace(/\.$/, "").toLowerCase();
    case "time": return Math.abs(new Date(`${text.replace(",", "")} ${new Date(value).getFullYear()}`.replace(/(.*) (\S+) (\d+)$/, "$1 $3 $2")) - new Date(value)) < 1000;
    case "count": return text.replaceAll(",", "") === String(Math.round(value));
    default: return near(text, value);
  }
}

// near says whether a value, written with so many digits and this unit, is that text.
function near(text, value) {
  const [, digits, unit] = /^([\d,.]+) ?(\S*)$/.exec(text) ?? [];
  const factor = unit ? units[unit] : 1;
  if (digits === undefined || factor === undefined) return false;
  const last = 10 ** -(digits.split(".")[1]?.length ?? 0) * factor;
  return Math.abs(Number(digits.replaceAll(",", "")) * factor - value) <= last * 0.501;
}

// unmarked finds digits that come from nowhere: not from the JSON, and not of a label.
export async function unmarked(page, where, faults) {
  const found = await page.evaluate(() => {
    const all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const strays = [];
    while (all.nextNode()) {
      const e = all.currentNode.parentElement;
      if (/\d/.test(all.currentNode.data) && !e.closest("[data-path], dt, h2, label, legend, script, [hidden]")) strays.push(all.currentNode.data.trim());
    }
    return strays;
  });
  for (const text of found) faults.push(`${where}: "${text}" has a figure that is not of the JSON`);
}
