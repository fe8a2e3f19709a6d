// The charts: what came in, what went out and what waited, for ten minutes or a day.
// The node keeps the past; what comes while the page is open is added here.

const keep = 600; // seconds of the short span

// Charts are two plots over one span of time.
export class Charts {
  constructor() {
    this.minutes = empty();
    this.day = empty();
    this.span = "minutes";
    this.plots = [];
    const again = () => this.build();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    new ResizeObserver(() => this.resize()).observe(document.getElementById("rates"));
  }

  // load takes what the node has kept: all of it at first, later only the day.
  load(history, first) {
    this.day = columns(history.day);
    if (first) {
      const now = this.minutes;
      this.minutes = columns(history.minutes);
      now[0].forEach((_, i) => this.push(now.map((column) => column[i])));
      this.build();
    }
    this.redraw();
  }

  // add takes a report that came now.
  add(report) {
    this.push([Date.now() / 1000, report.rates.in, report.rates.out, report.uplink.waiting]);
    this.redraw();
  }

  push(row) {
    const m = this.minutes;
    if (m[0].length > 0 && row[0] <= m[0][m[0].length - 1]) return; // the clocks differ a little
    row.forEach((v, i) => m[i].push(v));
    while (m[0][0] < row[0] - keep) m.forEach((column) => column.shift());
  }

  choose(span) {
    this.span = span;
    this.redraw();
  }

  build() {
    this.plots.forEach((p) => p.destroy());
    this.plots = [
      plot("rates", [["in", true], ["out", false]]),
      plot("waiting", [["waiting", true]]),
    ];
    this.redraw();
  }

  redraw() {
    const [time, into, out, waiting] = this[this.span];
    const end = time.length > 0 ? time[time.length - 1] : Date.now() / 1000;
    const [least, most] = this.span === "day" ? [3600, 86_400] : [60, keep];
    const length = Math.min(most, Math.max(least, end - (time[0] ?? end)));
    [[time, into, out], [time, waiting]].forEach((data, i) => {
      if (!this.plots[i]) return;
      this.plots[i].setData(data, false);
      this.plots[i].setScale("x", { min: end - length, max: end });
    });
  }

  resize() {
    this.plots.forEach((p) => p.setSize({ width: p.root.parentElement.clientWidth, height: p.height }));
  }
}

const empty = () => [[], [], [], []];

// columns gives the values of a series their times.
function columns(s) {
  const start = s.end - s.every_seconds * (s.in.length - 1);
  return [s.in.map((_, i) => start + i * s.every_seconds), s.in.slice(), s.out.slice(), s.waiting.slice()];
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// What may lie between two ticks: of time, in seconds, and of a figure, which is whole.
const steps = [15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 21_600];
const wholes = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat();

// times writes ticks of time, with seconds where minutes would be alike.
function times(_, all, axis, space, step) {
  const shape = { hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}) };
  const clock = new Intl.DateTimeFormat("en-GB", shape);
  return all.map((t) => clock.format(new Date(t * 1000)));
}

// short writes a tick: 12k rather than 12000.
function short(n) {
  return n >= 1e6 ? `${+(n / 1e6).toFixed(1)}M` : n >= 1e4 ? `${+(n / 1e3).toFixed(1)}k` : `${+n.toFixed(1)}`;
}

// plot makes an empty plot in the element of that id. A line is the name of a colour
// and whether the area below it is filled.
function plot(id, lines) {
  const root = document.getElementById(id);
  const font = "11px system-ui, sans-serif";
  const axis = { stroke: colour("--muted"), font, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  const series = lines.map(([name, filled]) => ({
    stroke: colour(`--${name}`), width: 1.75, points: { show: false }, fill: filled ? colour(`--${name}-soft`) : undefined,
  }));
  return new uPlot({
    width: root.clientWidth, height: 150, padding: [10, 6, 0, 0], legend: { show: false }, cursor: { show: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.15 || 1)] } },
    axes: [
      { ...axis, grid: { show: false }, space: 64, size: 24, incrs: steps, values: times },
      { ...axis, size: 40, gap: 4, space: 34, incrs: wholes, values: (_, all) => all.map(short) },
    ],
    series: [{}, ...series],
  }, [[], ...lines.map(() => [])], root);
}
