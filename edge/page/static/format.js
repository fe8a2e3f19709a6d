// How the figures of /api/status are written for people. Every function takes one
// value of the JSON and adds nothing to it but a unit.

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const fine = [0, 1, 2].map((n) => new Intl.NumberFormat("en-GB", { minimumFractionDigits: n, maximumFractionDigits: n }));
const clock = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });

// scaled divides n by the largest unit that leaves at least 1, and keeps three digits.
function scaled(n, step, units) {
  let i = 0;
  while (i + 1 < units.length && Math.abs(n) >= step) {
    n /= step;
    i++;
  }
  const digits = i === 0 || n >= 100 ? 0 : n >= 10 ? 1 : 2;
  return `${fine[digits].format(n)} ${units[i]}`;
}

export const formats = {
  text: (s) => String(s),
  sentence: (s) => s && s.charAt(0).toUpperCase() + s.slice(1) + (/[.!?]$/.test(s) ? "" : "."),
  list: (all) => all.join(", "),
  count: (n) => whole.format(n),
  rate: (n) => fine[n > 0 && n < 100 ? 1 : 0].format(n),
  ms: (n) => fine[n >= 100 ? 0 : n >= 10 ? 1 : 2].format(n),
  bytes: (n) => scaled(n, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]),
  sold: (n) => scaled(n, 1000, ["B", "kB", "MB", "GB", "TB"]), // decimal, as cards are
  days: (n) => (n >= 2 ? `${fine[n >= 10 ? 0 : 1].format(n)} days` : `${fine[1].format(n * 24)} hours`),
  years: (n) => `${fine[n >= 10 ? 0 : 1].format(n)} years`,
  time: (s) => clock.format(new Date(s)),
};

// at follows a path such as "mqtt.durable.1"; undefined if there is no such thing.
export function at(value, path) {
  return path.split(".").reduce((v, key) => (v === undefined || v === null ? undefined : v[key]), value);
}

// fill writes the figure that an element is for, and marks one that should be 0.
export function fill(element, report) {
  const value = at(report, element.dataset.path);
  const text = value === undefined || value === null ? "" : formats[element.dataset.as](value);
  if (element.textContent !== text) element.textContent = text;
  if ("alarm" in element.dataset) element.classList.toggle("alarm", value > 0);
}
