// The picture of the site: devices, the gateways with what they hold, and Kafka; lines
// for what goes where. It is drawn anew from each report.

import { fill } from "./format.js";

const box = { height: 66, gap: 34 };

// draw makes the picture, and the sentence that says the same.
export function draw(svg, caption, report) {
  const width = svg.parentElement.clientWidth;
  if (width < 240) return; // there is no layout yet
  const nodes = gateways(report);
  const side = width < 480 ? 68 : 110; // devices and Kafka
  const middle = Math.min(width < 480 ? width - 2 * side - 32 : 280, width - 2 * side - 32);
  const height = nodes.length * (box.height + box.gap) - box.gap + 4;
  const p = { width, height, side, middle, left: (width - middle) / 2, centre: height / 2 };
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  const parts = [...nodes.flatMap((n, i) => lines(p, report, n, i)), ...ends(p, report), ...nodes.flatMap((n, i) => gateway(p, report, n, i))];
  svg.replaceChildren(...parts);
  for (const e of svg.querySelectorAll("[data-path]")) fill(e, report);
  const text = sentence(report, nodes);
  if (caption.textContent !== text) caption.textContent = text;
}

// gateways are the nodes of the site, this one first; each has where it stands in the
// report, and whether it sends to Kafka.
function gateways(report) {
  const all = report.gateways?.nodes ?? [];
  if (all.length === 0) {
    return [{ name: report.node, self: true, there: true, path: null, sends: report.uplink.state === "forwarding" }];
  }
  return all
    .map((n, i) => ({
      name: n.name, self: n.state === "this", there: n.state === "this" || n.state === "alive", state: n.state, standing: n.standing,
      path: `gateways.nodes.${i}`, copied: n.copied > 0, behind: n.behind > 0,
      sends: n.state === "this" ? report.uplink.state === "forwarding" : n.state === "alive" && n.forwards.length > 0,
    }))
    .filter((n) => n.standing === "member" || n.there)
    .sort((a, b) => b.self - a.self);
}

const top = (i) => 2 + i * (box.height + box.gap);
const centre = (i) => top(i) + box.height / 2;

// lines are the ways from and to one gateway.
function lines(p, report, n, i) {
  const right = p.left + p.middle;
  const all = [];
  if (n.self) {
    all.push(path(curve(p.side, p.centre, p.left, centre(i)), report.mqtt.connections > 0 ? "way moving" : "way idle"));
  } else if (n.copied) {
    // A copy goes from this gateway, the first one, to the others, along their right edge.
    const x = p.left + p.middle * 0.5;
    all.push(path(`M${x} ${top(i) - box.gap}L${x} ${top(i)}`, n.there ? "way copy moving" : "way copy broken"));
  }
  const kind = n.sends ? "way moving" : n.self ? "way broken" : null;
  if (kind) {
    all.push(path(curve(right, centre(i), p.width - p.side, p.centre), kind));
  }
  return all;
}

// curve goes from one point to another that is to its right, and is level at both.
function curve(x, y, toX, toY) {
  const half = (x + toX) / 2;
  return `M${x} ${y}C${half} ${y} ${half} ${toY} ${toX} ${toY}`;
}

// ends are the devices on the left and Kafka on the right.
function ends(p, report) {
  const y = p.centre - 30;
  const right = p.width - p.side;
  const well = report.uplink.state === "forwarding";
  return [
    rectangle(1, y, p.side - 1, 60, "end"),
    words(p.side / 2, p.centre - 4, "name", "Devices"),
    figure(p.side / 2, p.centre + 15, "mqtt.connections"),
    rectangle(right, y, p.side - 1, 60, well ? "end" : "end away"),
    words(right + p.side / 2, p.centre - 4, "name", "Kafka"),
    words(right + p.side / 2, p.centre + 15, "small", well ? "connected" : p.side < 100 ? "away" : report.uplink.state),
  ];
}

// gateway is one node: its name, how its copy is, and what it holds that Kafka lacks.
function gateway(p, report, n, i) {
  const x = p.left + p.middle / 2;
  const y = top(i);
  const kind = n.self ? "gateway self" : n.there ? "gateway" : "gateway away";
  const room = Math.floor(p.middle / 8);
  const all = [
    rectangle(p.left, y, p.middle, box.height, kind),
    words(x, y + 21, "name", n.name.length > room ? `${n.name.slice(0, room - 1)}…` : n.name),
    ...role(x, y + 39, n),
  ];
  const held = words(x, y + 56, "small", "");
  held.append(span(n.path ? `${n.path}.records` : "uplink.waiting"), p.middle < 200 ? " waiting" : " not in Kafka yet");
  return [...all, held];
}

// role says what a gateway is to this one.
function role(x, y, n) {
  if (n.self) return [words(x, y, "small", n.path ? "this gateway" : "alone: no copies")];
  if (!n.there) return [words(x, y, "small", "not there")];
  if (!n.copied) return [words(x, y, "small", "has no copy")];
  if (!n.behind) return [words(x, y, "small", "copy complete")];
  const e = words(x, y, "small", "copy ");
  e.append(span(`${n.path}.behind`), " behind");
  return [e];
}

// sentence says in words what the picture shows.
function sentence(report, nodes) {
  const kafka = report.uplink.state === "forwarding" ? "This gateway sends to Kafka." : "This gateway does not reach Kafka; records wait on its disk.";
  const others = nodes.filter((n) => !n.self);
  if (others.length === 0) return kafka;
  const list = (all) => all.map((n) => n.name).join(" and ");
  const copies = others.filter((n) => n.there && n.copied);
  const gone = others.filter((n) => !n.there);
  const help = others.filter((n) => n.sends);
  return [
    kafka,
    copies.length > 0 ? `Copies of what it takes: ${list(copies)}.` : "No other gateway has a copy of what it takes.",
    gone.length > 0 ? `Not there: ${list(gone)}.` : "",
    help.length > 0 ? `${list(help)} ${help.length > 1 ? "send" : "sends"} to Kafka, too.` : "",
  ].filter(Boolean).join(" ");
}

function make(name, attributes, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (text) e.textContent = text;
  return e;
}

const path = (d, kind) => make("path", { d, class: kind });
const rectangle = (x, y, width, height, kind) => make("rect", { x, y, width, height, rx: 12, class: kind });
const words = (x, y, kind, text) => make("text", { x, y, class: kind, "text-anchor": "middle" }, text);
const span = (where) => make("tspan", { "data-path": where, "data-as": "count" });

function figure(x, y, where) {
  const e = words(x, y, "small", "");
  e.append(span(where));
  return e;
}
