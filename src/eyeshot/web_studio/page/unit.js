// One unit: what it sees, the sum behind its number, and the way back through the network.

import { colorOf, isDark, scaleBar } from "./colors.js";
import { by, h, refill, show, tight } from "./dom.js";
import { kindOf, phrase, say } from "./words.js";

const FEW = 12; // parts shown at first
const NUMBERS = 25; // cells of a patch up to which each is written

export class UnitPanel {
  constructor(app) {
    this.app = app;
    this.root = h("section", { class: "unit", "aria-label": say("unit"), "aria-live": "polite" });
    this.all = false;
  }

  render() {
    const { unit, trail } = this.app;
    if (!unit) {
      refill(this.root, this.empty());
      return;
    }
    refill(this.root,
      this.crumbs(trail),
      this.title(unit),
      this.app.beside.block(),
      this.field(unit),
      this.app.evidence.block(unit),
      unit.trace ? this.sum(unit) : h("p", { class: "refusal" }, unit.refusal || ""),
      h("div", { class: "why" }));
    this.showWhy();
  }

  empty() {
    return h("div", { class: "empty" },
      h("div", { class: "empty-mark", "aria-hidden": "true" }, h("span"), h("span"), h("span")),
      h("p", {}, say("noUnit")), h("p", { class: "faint" }, say("noUnitMore")), this.ofFile());
  }

  /** Of a page without a server: which units it holds. */
  ofFile() {
    const { file } = this.app.source;
    if (!file) return null;
    return h("p", { class: "faint" }, say("fileHolds", file.units), file.left ? say("fileLeft", file.left) : "");
  }

  crumbs(trail) {
    if (trail.length < 2) return null;
    return h("nav", { class: "crumbs", "aria-label": say("back") },
      trail.map((one, index) => [
        index ? h("span", { class: "faint" }, "›") : null,
        h("button", {
          class: "plain" + (index === trail.length - 1 ? " now" : ""),
          onclick: () => this.app.backTo(index),
        }, one.layer, h("span", { class: "mono faint" }, ` [${one.unit.join(", ")}]`)),
      ]));
  }

  title(unit) {
    const both = this.app.beside.side === "difference" ? this.app.beside.values() : null;
    const value = both ? both[2] : unit.trace ? unit.trace.network_value : unit.value;
    return h("header", {},
      h("div", {},
        h("h2", {}, unit.layer, h("span", { class: "mono soft" }, ` [${unit.unit.join(", ")}]`)),
        h("p", { class: "faint" }, this.named(unit))),
      h("output", { class: "value", title: String(value) }, show(value, 5)));
  }

  named(unit) {
    const { state } = this.app;
    const layer = state.layers.find((one) => one.name === unit.layer);
    const name = layer && layer.input ? say("input") : kindOf(unit.title);
    const { classes, outputs } = state.network;
    const isOutput = outputs.includes(unit.layer) && unit.unit.length === 1 && classes[unit.unit[0]] !== undefined;
    return isOutput ? `${name} · ${classes[unit.unit[0]]}` : name;
  }

  field(unit) {
    const { box, inside, status } = unit.field;
    const layer = this.app.state.layers.find((one) => one.name === unit.layer);
    if (layer && layer.input) return null;
    if (!box || box.length !== 2) return h("p", { class: "faint" }, status);
    const size = this.app.state.picture.size;
    const sides = box.map(([lo, hi]) => hi - lo);
    const over = [["above", -box[0][0]], ["below", box[0][1] - size[0]], ["left", -box[1][0]], ["right", box[1][1] - size[1]]]
      .filter(([, n]) => n > 0).map(([key, n]) => say(key, n));
    const whole = status === "whole image";
    return h("div", { class: "block" },
      h("h3", {}, say("whatItSees")),
      h("p", { class: "lead" }, whole ? say("wholeImage") : by(sides),
        h("span", { class: "soft" }, `  ${say("rows", `${inside[0][0]}–${inside[0][1] - 1}`)}${say("comma")}${say("columns", `${inside[1][0]}–${inside[1][1] - 1}`)}`)),
      whole ? null : h("p", { class: "faint" }, over.length ? say("touches", over.join(say("comma"))) : say("noPadding")),
      !this.app.source.live ? null : h("label", { class: "check", title: say("effectiveHint") },
        this.effectiveBox = h("input", { type: "checkbox", checked: this.app.effective, onchange: (event) => this.app.showEffective(event.target.checked) }),
        " ", say("effective")),
      !this.app.source.live ? null : (this.effectiveLegend = h("p", { class: "faint legend", hidden: true })));
  }

  /** Whether what really moves the unit is laid over the picture, and what its colors mean. */
  markEffective() {
    const { effective, effectivePicture } = this.app;
    if (!this.effectiveBox) return;
    this.effectiveBox.checked = effective;
    this.effectiveLegend.hidden = !effective || !effectivePicture;
    if (effectivePicture) refill(this.effectiveLegend, h("span", { class: "scale mono" }, "0", scaleBar(false), show(effectivePicture.largest, 3)), " ", say("effectiveLegend"));
  }

  sum(unit) {
    const { trace, links } = unit;
    const twins = this.app.beside.sums();
    if (this.app.beside.side === "difference" && this.app.twin) return this.differences(unit, twins);
    const order = trace.parts.map((part, index) => ({ part, link: links[index], twin: twins ? twins[index] : null }));
    order.sort((a, b) => Math.abs(b.part.sum ?? 0) - Math.abs(a.part.sum ?? 0));
    const shown = order.slice(0, this.shownTerms());
    const rest = order.slice(shown.length);
    const restSum = rest.reduce((sum, one) => sum + (one.part.sum ?? 0), 0);
    const largest = Math.max(1e-30, ...trace.parts.map((part) => Math.abs(part.sum ?? 0)), Math.abs(trace.bias ?? 0), Math.abs(restSum));
    const { twin } = this.app;
    const beside = (value) => (twin && twin.trace ? h("td", { class: "right mono twin", title: String(value ?? "") }, twins ? show(value) : "") : null);
    const scales = this.scales(trace.parts);
    const table = h("table", { class: "sum" + (twin && twin.trace ? " with-twin" : "") },
      h("thead", {}, h("tr", {},
        h("th", { scope: "col" }, this.heading(unit)), h("th", { scope: "col" }, say("patch")),
        trace.parts.some((part) => part.kernel !== null) ? [h("th", {}), h("th", { scope: "col" }, say(trace.parts.some((part) => Array.isArray(part.kernel)) ? "kernel" : "weight"))] : null,
        h("th", {}), h("th", { scope: "col", class: "right" }, this.resultName(trace)),
        twin && twin.trace ? h("th", { scope: "col", class: "right twin", title: this.twinName() }, this.twinName()) : null)),
      h("tbody", {}, shown.map((one) => this.row(one, trace, scales, largest, beside(one.twin))),
        rest.length ? this.plainRow(h("button", { class: "link", onclick: () => { this.all = true; this.render(); } },
          say("showAll", order.length)), say("rest", rest.length), restSum, largest, trace, false, beside(rest.reduce((sum, one) => sum + (one.twin ?? 0), 0))) : null,
        trace.bias !== null ? this.plainRow(say("bias"), "", trace.bias, largest, trace, false, beside(twin?.trace?.bias)) : null),
      h("tfoot", {}, this.plainRow(say("total"), "", trace.total, largest, trace, true, twin && twin.trace ? h("td", { class: "right mono twin", title: String(twin.trace.total) }, show(twin.trace.total, 5)) : null)));
    return h("div", { class: "block" },
      h("div", { class: "heading" }, h("h3", {}, say("theSum")),
        h("button", { class: "small", title: say("whyHint"), onclick: () => this.app.why() }, say("why"))),
      h("p", { class: "faint" }, ruleOf(unit)),
      trace.parts.length ? table : null,
      twin && twin.trace && !twins ? h("p", { class: "faint" }, say("termsDiffer")) : null,
      h("p", { class: "faint check-line" }, say("ofNetwork", String(trace.network_value))));
  }

  /** How many terms are written, the largest first. */
  shownTerms() {
    return this.all ? Infinity : FEW;
  }

  /** The other network than the one whose sum is shown. */
  twinName() {
    const { beside } = this.app;
    return beside.name(beside.side === "other" ? "" : "other");
  }

  /** Both sums term by term, those that differ most first. */
  differences(unit, twins) {
    const { beside, twin } = this.app;
    const { trace, links } = unit;
    const others = twin.trace;
    const rows = twins ? trace.parts.map((part, i) => ({ name: this.termName(part, links[i]), link: links[i], mine: part.sum, theirs: twins[i] })) : [];
    rows.sort((a, b) => Math.abs((b.mine ?? 0) - (b.theirs ?? 0)) - Math.abs((a.mine ?? 0) - (a.theirs ?? 0)));
    const shown = rows.slice(0, this.shownTerms());
    const rest = rows.slice(shown.length);
    const added = (key) => rest.reduce((sum, one) => sum + (one[key] ?? 0), 0);
    if (rest.length) shown.push({ name: h("button", { class: "link", onclick: () => { this.all = true; this.render(); } }, say("rest", rest.length)), mine: added("mine"), theirs: added("theirs") });
    if (trace.bias !== null || (others && others.bias !== null)) shown.push({ name: say("bias"), mine: trace.bias ?? 0, theirs: others ? others.bias ?? 0 : null });
    const largest = Math.max(1e-30, ...shown.map((one) => Math.abs((one.mine ?? 0) - (one.theirs ?? 0))));
    const cell = (value, digits = 4) => h("td", { class: "right mono", title: String(value) }, show(value, digits));
    const line = ({ name, link, mine, theirs }) => h("tr", {},
      h("th", { scope: "row" }, link && link.strongest && this.canGo(link.source, link.strongest)
        ? h("button", { class: "link", onclick: () => this.app.follow(link.source, link.strongest) }, name) : name),
      cell(mine), cell(theirs), h("td", { class: "bar-cell" }, this.bar((mine ?? 0) - (theirs ?? 0), largest)), cell((mine ?? 0) - (theirs ?? 0)));
    return h("div", { class: "block" },
      h("div", { class: "heading" }, h("h3", {}, say("bothSums"))),
      h("table", { class: "sum" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, this.heading(unit)), h("th", { scope: "col", class: "right name" }, beside.name("")),
          h("th", { scope: "col", class: "right name" }, beside.name("other")), h("th", {}), h("th", { scope: "col", class: "right" }, say("differenceOf")))),
        h("tbody", {}, shown.map(line)),
        others ? h("tfoot", {}, h("tr", { class: "strong" }, h("th", { scope: "row" }, say("total")), cell(trace.total), cell(others.total), h("td", {}), cell(trace.total - others.total))) : null),
      twins ? null : h("p", { class: "faint" }, say("termsDiffer")));
  }

  heading(unit) {
    const sources = new Set(unit.links.map((one) => one.source));
    return sources.size === 1 ? [...sources][0] : say("from");
  }

  resultName(trace) {
    return trace.rule === "max" ? say("largest") : trace.rule === "mean" ? say("mean") : say("product");
  }

  /** The largest number of patches and of kernels, so that colors can be compared down the table. */
  scales(parts) {
    const flat = (values) => values.flat(3).filter((one) => Number.isFinite(one));
    const of = (key) => {
      const numbers = flat(parts.map((part) => (part[key] === null ? [] : [part[key]])));
      let [most, signed] = [1e-30, false];
      for (const one of numbers) {
        most = Math.max(most, Math.abs(one));
        signed = signed || one < 0;
      }
      return { most, signed };
    };
    return { patch: of("patch"), kernel: { ...of("kernel"), signed: true } };
  }

  /** What a term is called: its channel, or the place of its number. */
  termName(part, link) {
    const named = part.patch === null || Array.isArray(part.patch) || part.cells.length || !link.strongest;
    return [part.source ? `${part.source} ` : "", named ? String(part.channel) : `[${link.strongest.join(", ")}]`].join("");
  }

  row({ part, link }, trace, scales, largest, twin) {
    const go = link && link.strongest && this.canGo(link.source, link.strongest)
      ? () => this.app.follow(link.source, link.strongest) : null;
    const label = this.termName(part, link);
    return h("tr", {},
      h("th", { scope: "row" }, go
        ? h("button", { class: "link", onclick: go, title: `${link.source} [${link.strongest.join(", ")}]` }, label)
        : label),
      h("td", {}, this.grid(part.patch, part.outside, scales.patch, link)),
      trace.parts.some((one) => one.kernel !== null) ? [h("td", { class: "sign" }, part.kernel !== null ? "×" : ""),
        h("td", {}, part.kernel === null ? null : this.grid(part.kernel, null, scales.kernel, null))] : null,
      h("td", { class: "bar-cell" }, this.bar(part.sum, largest)),
      h("td", { class: "right mono", title: String(part.sum) }, show(part.sum)), twin);
  }

  plainRow(name, note, value, largest, trace, strong = false, twin = null) {
    const kernel = trace.parts.some((part) => part.kernel !== null);
    return h("tr", { class: strong ? "strong" : null },
      h("th", { scope: "row", colspan: kernel ? 4 : 2 }, name, note ? h("span", { class: "faint" }, " ", note) : null),
      h("td", { class: "bar-cell" }, strong ? null : this.bar(value, largest)),
      h("td", { class: "right mono", title: String(value) }, show(value, strong ? 5 : 4)), twin);
  }

  bar(value, largest) {
    const share = Math.min(1, Math.abs(value ?? 0) / largest);
    return h("span", { class: "amount " + (value < 0 ? "negative" : "positive"), style: { "--share": share.toFixed(4) } }, h("span"));
  }

  canGo(layer, unit) {
    return this.app.source.live || this.app.source.has("unit", { layer, unit: unit.join(","), of: this.app.beside.of("unit") });
  }

  /** Cells with their numbers, or colored alone where there are many. */
  grid(values, outside, scale, link) {
    if (!Array.isArray(values)) return h("span", { class: "mono cell-alone" }, show(values, 3));
    const rows = Array.isArray(values[0]) ? values : [values];
    const hidden = outside ? (Array.isArray(outside[0]) ? outside : [outside]) : null;
    if (Array.isArray(rows[0][0])) return h("span", { class: "faint" }, "…");
    const small = rows.length * rows[0].length > NUMBERS;
    let found = false; // one cell is reached by Tab, the others from there by arrows
    const cells = rows.flatMap((row, i) => row.map((value, j) => {
      const away = hidden && hidden[i][j];
      const unit = link && !away ? this.unitOf(link, i, j, rows.length) : null;
      const go = unit && this.canGo(link.source, unit);
      const name = away ? say("padding") : String(value);
      const first = go && !found;
      found = found || Boolean(go);
      return h(go ? "button" : "span", {
        class: "cell" + (away ? " away" : "") + (isDark(value, scale.most, scale.signed) && !away ? " light" : ""),
        title: unit ? `${name}  ${link.source} [${unit.join(", ")}]` : name,
        style: away ? {} : { background: colorOf(value, scale.most, scale.signed) },
        onclick: go ? () => this.app.follow(link.source, unit) : null,
        tabindex: go ? (first ? 0 : -1) : null,
      }, small ? "" : away ? "·" : tight(value));
    }));
    return h("span", { class: "grid" + (small ? " small" : ""), style: { "--columns": String(rows[0].length) }, onkeydown: (event) => {
      const by_ = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -rows[0].length, ArrowDown: rows[0].length }[event.key];
      if (!by_ || !cells.includes(event.target)) return;
      event.preventDefault();
      event.stopPropagation();
      cells[cells.indexOf(event.target) + by_]?.focus();
    } }, cells);
  }

  unitOf(link, i, j, rows) {
    if (link.axes.length === 2) {
      const [row, column] = [link.axes[0][i], link.axes[1][j]];
      return row < 0 || column < 0 ? null : [...link.before, row, column];
    }
    return link.axes.length === 1 && rows === 1 ? [...link.before, link.axes[0][j]] : null;
  }

  /** The way of the largest contributions, once it is known. */
  showWhy(reveal = false) {
    const place = this.root.querySelector(".why");
    if (!place || !this.app.chain) return;
    const { steps, end } = this.app.chain;
    refill(place, h("div", { class: "block" }, h("h3", {}, say("whyTitle")),
      h("p", { class: "faint" }, say("shareHint")),
      h("p", { class: "steps-head faint" }, h("span", {}, say("whyUnit")), h("span", {}, say("whyValue")),
        h("span", {}, say("whyShare"))),
      h("ol", { class: "steps" }, steps.map((one) => h("li", {},
        h("button", { class: "link", onclick: () => this.app.follow(one.layer, one.unit) },
          one.layer, h("span", { class: "mono" }, ` [${one.unit.join(", ")}]`)),
        h("span", { class: "mono value" }, show(one.value)),
        h("span", { class: "faint" }, one.share ? percent(one.share) : "")))),
      end ? h("p", { class: "faint" }, say("whyEnd", phrase(end))) : null));
    if (reveal) place.scrollIntoView({ block: "nearest" });
  }
}

/** How the number comes from its terms, in a sentence. */
export function ruleOf({ trace, operator }) {
  const { rule, parts, total } = trace;
  if (rule === "value" && parts.length === 1 && /^relu_?$/i.test(operator)) {
    const into = parts[0].sum; // null stands for NaN; a muted channel gives 0 for any number
    if (into < 0 && total === 0) return say("rule_relu_negative", show(into));
    if (into !== null && into === total) return say("rule_relu_positive", show(into));
  }
  if (rule !== "sum") return say("rule_" + rule, show(trace.divisor));
  if (parts.some((part) => Array.isArray(part.kernel))) return say("rule_sum_kernel");
  return say(parts.some((part) => part.kernel !== null && part.kernel !== 1) ? "rule_sum_weight" : "rule_sum");
}

function percent(share) {
  return share < 0.005 ? "< 1 %" : `${Math.round(100 * share)} %`;
}
