// The sum of one unit as a drawing: patch by patch, kernel by kernel, as it stands on the page.

import { colorOf, isDark } from "./colors.js";
import { show, svg, tight } from "./dom.js";
import { ruleOf } from "./unit.js";
import { say } from "./words.js";

const CELL = 24; // a cell whose number is written
const DOT = 7; // a cell that is only colored
const LEGIBLE = 25; // cells of a patch up to which each is written
const LEFT = 16;
const BETWEEN = 14;

/** The parts of a drawing of a sum, and its width and height. */
export function drawSum(app, shown, color) {
  const { unit, unitPanel, beside, twin } = app;
  const { trace, links } = unit;
  const twins = beside.sums();
  const scales = unitPanel.scales(trace.parts);
  const order = trace.parts.map((part, index) => ({ part, link: links[index], twin: twins ? twins[index] : null }))
    .sort((a, b) => Math.abs(b.part.sum ?? 0) - Math.abs(a.part.sum ?? 0));
  const rows = order.slice(0, shown);
  const rest = order.slice(shown);
  const kernels = trace.parts.some((part) => part.kernel !== null);
  const wide = (key) => Math.max(40, ...rows.map(({ part }) => (part[key] === null ? 0 : sizeOf(part[key])[0])));
  const names = rows.map(({ part, link }) => unitPanel.termName(part, link));
  const patchAt = LEFT + 24 + 7 * Math.max(unitPanel.heading(unit).length, ...names.map((one) => one.length));
  const kernelAt = patchAt + wide("patch") + 2 * BETWEEN;
  const sumAt = (kernels ? kernelAt + wide("kernel") : patchAt + wide("patch")) + 90;
  const twinAt = sumAt + 90;
  const last = twin && twin.trace ? twinAt : sumAt;
  const write = (x, y, text, tone = "--ink", more = {}) => svg("text", { x, y, "font-size": 12, fill: color(tone), ...more }, text);
  const number = (x, y, value, more = {}) => write(x, y, show(value, 5), x === twinAt ? "--cool" : "--ink", { "text-anchor": "end", ...more });
  const value = trace.network_value;
  const parts = [write(LEFT, 26, `${unit.layer} [${unit.unit.join(", ")}] = ${show(value, 6)}`, "--ink", { "font-size": 15, "font-weight": 650 }),
    write(LEFT, 44, ruleOf(unit), "--faint"),
    write(LEFT, 68, unitPanel.heading(unit), "--faint"), write(patchAt, 68, say("patch"), "--faint"),
    kernels ? write(kernelAt, 68, say("kernel"), "--faint") : null,
    write(sumAt, 68, unitPanel.resultName(trace), "--faint", { "text-anchor": "end" }),
    last === twinAt ? write(twinAt, 68, unitPanel.twinName(), "--cool", { "text-anchor": "end" }) : null];
  let y = 78;
  const line = (name, mine, theirs, more = {}) => {
    parts.push(write(LEFT, y + 16, name, "--ink", more), number(sumAt, y + 16, mine, more));
    if (last === twinAt && theirs !== null && theirs !== undefined) parts.push(number(twinAt, y + 16, theirs, more));
    y += 24;
  };
  for (const { part, link, twin: theirs } of rows) {
    const high = Math.max(20, sizeOf(part.patch)[1], part.kernel === null ? 0 : sizeOf(part.kernel)[1]);
    const middle = y + high / 2 + 4;
    parts.push(write(LEFT, middle, unitPanel.termName(part, link)), ...cells(part.patch, part.outside, scales.patch, patchAt, y, high, color));
    if (part.kernel !== null) {
      parts.push(write(kernelAt - BETWEEN, middle, "×", "--faint", { "text-anchor": "middle" }), ...cells(part.kernel, null, scales.kernel, kernelAt, y, high, color));
    }
    parts.push(number(sumAt, middle, part.sum));
    if (theirs !== null) parts.push(number(twinAt, middle, theirs));
    y += high + 10;
  }
  const added = (key) => rest.reduce((sum, one) => sum + ((key === "twin" ? one.twin : one.part.sum) ?? 0), 0);
  if (rest.length) line(say("rest", rest.length), added("sum"), twins ? added("twin") : null);
  if (trace.bias !== null) line(say("bias"), trace.bias, twin?.trace?.bias);
  parts.push(svg("path", { d: `M${LEFT} ${y}H${last}`, stroke: color("--ink"), "stroke-width": 1.5 }));
  line(say("total"), trace.total, twin?.trace?.total, { "font-weight": 700 });
  return { parts: parts.filter(Boolean), wide: last + LEFT, high: y + 12 };
}

function rowsOf(values) {
  if (!Array.isArray(values)) return [[values]];
  return Array.isArray(values[0]) ? values : [values];
}

function sideOf(rows) {
  return rows.length * rows[0].length > LEGIBLE ? DOT : CELL;
}

/** Width and height of a patch as it is drawn; a lone number is written. */
function sizeOf(values) {
  const rows = rowsOf(values);
  return Array.isArray(values) ? [rows[0].length * sideOf(rows), rows.length * sideOf(rows)] : [52, 20];
}

function cells(values, outside, scale, x, y, high, color) {
  const rows = rowsOf(values);
  const middle = y + high / 2 + 4;
  if (!Array.isArray(values)) return [svg("text", { x, y: middle, "font-size": 12, fill: color("--ink") }, show(values, 3))];
  if (Array.isArray(rows[0][0])) return [svg("text", { x, y: middle, "font-size": 12, fill: color("--faint") }, "…")];
  const side = sideOf(rows);
  const hidden = outside ? rowsOf(outside) : null;
  const top = y + (high - rows.length * side) / 2;
  return rows.flatMap((row, i) => row.flatMap((value, j) => {
    const away = hidden && hidden[i][j];
    const place = { x: x + j * side, y: top + i * side, width: side - 1, height: side - 1 };
    const box = svg("rect", { ...place, fill: away ? "none" : colorOf(value, scale.most, scale.signed), stroke: away ? color("--line") : "none" });
    if (side === DOT) return [box];
    return [box, svg("text", { x: place.x + side / 2, y: place.y + side / 2 + 3.5, "font-size": 8.5, "text-anchor": "middle", "font-family": "monospace",
      fill: away ? color("--faint") : isDark(value, scale.most, scale.signed) ? "#fff" : "#1d1c22" }, away ? "·" : tight(value))];
  }));
}
