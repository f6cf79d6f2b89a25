// What is shown, as files: pictures (PNG), drawings (SVG) and numbers (CSV).

import { by, h, svg } from "./dom.js";
import { drawSum } from "./drawn_sum.js";
import { kindOf, say } from "./words.js";

const GAP = 16; // between two panes
const WIDE = 520; // of the drawing of a network
const STRIP = 36;

function download(app, blob, ending) {
  const name = [app.state.network.name, app.beside.side && app.beside.name(), app.chosen.layer, app.chosen.channel].filter((one) => one !== "").join("-").replace(/[^\w.-]+/g, "_");
  const link = h("a", { href: URL.createObjectURL(blob), download: `${name}.${ending}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 5000);
}

function panesOf(app) {
  return [app.picturePane, app.mapPane].filter((one) => one.canvas.offsetParent !== null);
}

/** The panes side by side, as they are on the screen. */
export function savePng(app) {
  const panes = panesOf(app).map((one) => one.canvas);
  const canvas = document.createElement("canvas");
  canvas.width = panes.reduce((sum, one) => sum + one.width, GAP * (panes.length - 1));
  canvas.height = Math.max(...panes.map((one) => one.height));
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(app.root).getPropertyValue("--paper");
  context.fillRect(0, 0, canvas.width, canvas.height);
  let x = 0;
  for (const one of panes) {
    context.drawImage(one, x, 0);
    x += one.width + GAP;
  }
  canvas.toBlob((blob) => download(app, blob, "png"));
}

/** The panes side by side as a drawing: boxes as lines, pictures pixel by pixel. */
export function saveView(app) {
  const panes = panesOf(app);
  const style = getComputedStyle(app.root);
  const color = (name) => style.getPropertyValue(name).trim();
  const wide = panes.reduce((sum, one) => sum + one.canvas.clientWidth, GAP * (panes.length - 1));
  const high = Math.max(...panes.map((one) => one.canvas.clientHeight));
  let x = 0;
  const groups = panes.map((pane) => {
    const { clientWidth, clientHeight } = pane.canvas;
    const place = ([left, top, width, height]) => ({ x: left, y: top, width, height });
    const images = pane.pictures.map((one) => svg("image", { ...place(pane.onPane(one.box)), opacity: one.alpha ?? 1,
      preserveAspectRatio: "none", style: { "image-rendering": "pixelated" }, href: one.canvas.toDataURL() }));
    const boxes = pane.marks.filter((one) => one.kind !== "hover").map((one) => svg("rect", { ...place(pane.onPane(one.box)),
      fill: "none", stroke: color(one.kind === "reach" ? "--cool" : "--accent"), "stroke-width": 2 }));
    const group = svg("svg", { x, width: clientWidth, height: clientHeight }, images, boxes);
    x += clientWidth + GAP;
    return group;
  });
  saveSvg(app, wide, high, color("--paper"), groups, "view.svg");
}

/** The network from top to bottom: names, kinds, shapes, fields, maps, and connections as arcs. */
export function saveNetwork(app) {
  const style = getComputedStyle(app.root);
  const color = (name) => style.getPropertyValue(name).trim();
  const { network, layers } = app.state;
  const write = (x, y, text, size, tone, more = {}) => svg("text", { x, y, "font-size": size, fill: color(tone), ...more }, text);
  const parts = [write(28, 24, `${network.class} · ${say("layers", layers.filter((one) => !one.input).length)}`, 15, "--ink", { "font-weight": 650 })];
  const middles = new Map();
  let y = 44;
  for (const layer of layers) {
    middles.set(layer.name, y + 9);
    parts.push(write(28, y + 13, layer.name, 13, "--ink", { "font-weight": layer.minor ? 400 : 650 }),
      write(190, y + 13, layer.input ? say("input") : kindOf(layer.title), 12, "--faint"),
      write(WIDE - 12, y + 13, by(layer.shape), 12, "--soft", { "text-anchor": "end" }));
    if (layer.findings.length) parts.push(svg("circle", { cx: 182, cy: y + 9, r: 3.5, fill: color("--warn") }));
    y += 20;
    if (layer.minor) continue;
    const facts = [app.networkPanel.fieldText(layer), app.networkPanel.options(layer)].filter(Boolean).join(" · ");
    if (facts) {
      parts.push(write(28, y + 11, facts, 11, "--faint"));
      y += 16;
    }
    const strip = app.networkPanel.strips.get(layer.name);
    if (strip && strip.tiles.length) y += drawTiles(parts, strip, y);
    y += 8;
  }
  layers.forEach((layer, index) => {
    for (const source of layer.sources) {
      const from = layers.findIndex((one) => one.name === source);
      if (from < 0 || index - from < 2) continue;
      const [top, bottom] = [middles.get(source), middles.get(layer.name)];
      const out = 24 - Math.min(20, 6 + (bottom - top) / 40);
      parts.push(svg("path", { d: `M24 ${top}C${out} ${top} ${out} ${bottom} 24 ${bottom}`, fill: "none", stroke: color("--cool"), "stroke-width": 1.3 }));
    }
  });
  saveSvg(app, WIDE, y + 10, color("--card"), parts, "network.svg");
}

/** The maps that the page has of a layer, one beside the other; how high that is. */
function drawTiles(parts, strip, y) {
  const vector = strip.shape[1] === 1;
  const scale = vector ? 12 : STRIP / Math.max(strip.shape[1], strip.shape[2]);
  const [wide, high] = vector ? [Math.min(WIDE - 40, strip.shape[2] * scale), 12] : [strip.shape[2] * scale, strip.shape[1] * scale];
  const count = vector ? 1 : Math.min(strip.tiles.length, Math.floor((WIDE - 40) / (wide + 3)));
  for (let i = 0; i < count; i++) {
    parts.push(svg("image", { x: 28 + i * (wide + 3), y: y + 3, width: wide, height: high, preserveAspectRatio: "none",
      style: { "image-rendering": "pixelated" }, href: strip.tiles[i].toDataURL() }));
  }
  return high + 6;
}

function saveSvg(app, wide, high, paper, parts, ending) {
  const drawing = svg("svg", { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, "font-family": "system-ui, sans-serif" },
    svg("rect", { width: wide, height: high, fill: paper }), parts);
  download(app, new Blob([new XMLSerializer().serializeToString(drawing)], { type: "image/svg+xml" }), ending);
}

/** The chosen unit's sum, as it stands on the page. */
export function saveSumDrawing(app) {
  if (!app.unit || !app.unit.trace) return;
  const style = getComputedStyle(app.root);
  const color = (name) => style.getPropertyValue(name).trim();
  const { parts, wide, high } = drawSum(app, app.unitPanel.shownTerms(), color);
  saveSvg(app, wide, high, color("--card"), parts, "sum.svg");
}

/** The numbers of the map that is shown, row by row. */
export function saveMap(app) {
  if (!app.map) return;
  const { shape, numbers } = app.map;
  const rows = [];
  for (let i = 0; i < shape[1]; i++) rows.push([...numbers.slice(i * shape[2], (i + 1) * shape[2])].join(","));
  saveRows(app, rows, "csv");
}

/** The chosen unit's sum, term by term. */
export function saveSum(app) {
  if (!app.unit || !app.unit.trace) return;
  const { trace, links } = app.unit;
  const lines = [["source", "channel", "cell", "input", "kernel", "product"].join(",")];
  trace.parts.forEach((part, index) => {
    const inputs = [part.patch].flat(4);
    const weights = part.kernel === null ? null : [part.kernel].flat(4);
    inputs.forEach((value, cell) => lines.push([JSON.stringify(links[index].source), part.channel, cell, value,
      weights ? weights[cell] : "", weights ? value * weights[cell] : value].join(",")));
  });
  if (trace.bias !== null) lines.push(`"bias",,,,,${trace.bias}`);
  lines.push(`"total",,,,,${trace.total}`);
  saveRows(app, lines, "sum.csv");
}

function saveRows(app, rows, ending) {
  download(app, new Blob([rows.join("\n") + "\n"], { type: "text/csv" }), ending);
}
