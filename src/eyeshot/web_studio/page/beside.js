// A second network beside the first: whose numbers are shown, and both sums of a unit.

import { by, h, show } from "./dom.js";
import { say } from "./words.js";

/** Questions that the second network, or the difference, answers in place of the first network. */
const ASKED = {
  other: ["strip", "maps", "overlay", "unit", "effective", "why", "dead"],
  difference: ["strip", "maps", "overlay"],
};
const SIDES = ["", "other", "difference"];

export class Beside {
  constructor(app) {
    this.app = app;
    this.side = ""; // "", "other" or "difference"
  }

  get known() {
    return this.app.state && this.app.state.beside;
  }

  /** Whose answer a question is for. */
  of(name) {
    return this.known && this.side && ASKED[this.side].includes(name) ? this.side : "";
  }

  /** The two networks' names, and both with a minus between. */
  name(side = this.side) {
    const [first, second] = [this.app.state.network.name, this.known ? this.known.name : ""];
    return side === "" ? first : side === "other" ? second : `${first} − ${second}`;
  }

  /** Whether the second network has this layer in the same shape. */
  has(layer) {
    return Boolean(this.known) && this.known.layers[layer] === true;
  }

  /** Why a layer cannot be compared; "" where it can. */
  reason(layer) {
    if (!this.known || this.has(layer)) return "";
    const there = this.known.layers[layer];
    return there ? say("otherShape", this.known.name, layer, by(there)) : say("noTwin", this.known.name, layer);
  }

  /** Whether what is shown of this layer needs it in both networks, and it is not. */
  lacks(layer) {
    return this.side !== "" && !this.has(layer);
  }

  choose(side) {
    this.side = side;
    return this.app.edited();
  }

  next() {
    if (this.known) this.choose(SIDES[(SIDES.indexOf(this.side) + 1) % SIDES.length]);
  }

  /** Chooses whose numbers are shown; null without a second network. */
  chooser() {
    if (!this.known) return null;
    return h("div", { class: "tabs sides", role: "radiogroup", "aria-label": say("compare"), title: "b" }, SIDES.map((side) => h("button", {
      role: "radio", "aria-checked": String(side === this.side), "aria-selected": String(side === this.side), title: this.name(side),
      onclick: () => this.choose(side),
    }, side === "difference" ? say("differenceOf") : this.name(side))));
  }

  /** How many layers can be compared. */
  summary() {
    if (!this.known) return null;
    const all = this.app.state.layers.filter((one) => !one.input).map((one) => one.name);
    return h("p", { class: "compared" }, say("compared", this.known.name, all.filter((one) => this.has(one)).length, all.length));
  }

  /** A mark at a layer that cannot be compared. */
  flag(layer) {
    const reason = this.reason(layer);
    return reason ? h("span", { class: "flag unlike", title: reason }, "≠") : null;
  }

  /** Of a unit both values and their difference: the first network's, the second's, first less second. */
  values() {
    const { unit, twin } = this.app;
    const [first, second] = this.side === "other" ? [twin, unit] : [unit, twin];
    return twin ? [valueOf(first), valueOf(second), valueOf(first) - valueOf(second)] : null;
  }

  /** Both values of the chosen unit, or why there is only one. */
  block() {
    const { unit } = this.app;
    if (!this.known || !unit) return null;
    const values = this.values();
    if (!values) {
      const reason = this.reason(unit.layer);
      return reason ? h("p", { class: "faint" }, reason) : null;
    }
    return h("div", { class: "both" }, SIDES.map((side, i) => h("button", {
      class: "plain", "aria-pressed": String(side === this.side), title: String(values[i]), onclick: () => this.choose(side),
    }, h("span", { class: "faint" }, side === "difference" ? say("differenceOf") : this.name(side)), h("output", { class: "mono" }, show(values[i], 5)))));
  }

  /** The sums of the parts in the twin's trace, in the order of the unit's; null where the terms are others. */
  sums() {
    const { unit, twin } = this.app;
    if (!twin || !unit.trace || !twin.trace) return null;
    const [mine, theirs] = [unit.trace.parts, twin.trace.parts];
    const same = mine.length === theirs.length && mine.every((part, i) => part.channel === theirs[i].channel && part.source === theirs[i].source);
    return same ? theirs.map((part) => part.sum) : null;
  }
}

function valueOf(unit) {
  return unit.trace ? unit.trace.network_value : unit.value;
}
