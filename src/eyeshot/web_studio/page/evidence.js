// What each pixel adds to a number: strokes in two colors over the picture, and the same in words.

import { canvasOf, colorOf, isDark } from "./colors.js";
import { h, refill, show } from "./dom.js";
import { say } from "./words.js";

// As the bars of a sum: red raises the number, blue lowers it, and any eye tells them apart.
const RAISES = [214, 96, 77];
const LOWERS = [67, 147, 195];
const DIM = new ImageData(Uint8ClampedArray.of(0, 0, 0, 255), 1, 1); // over the picture, so that the colors are seen

export class Evidence {
  constructor(app) {
    this.app = app;
    this.on = false;
    this.against = "next"; // "", "next", or a class
    this.root = h("div", { class: "block evidence" });
    this.clear();
  }

  clear() {
    this.answer = null;
    this.picture = null;
    this.refused = "";
  }

  /** Whether it can be asked of this unit. */
  possible(unit) {
    const { source, state, beside } = this.app;
    const layer = this.app.layerNamed(unit.layer);
    if (!layer || layer.input || beside.side) return false;
    return source.live || source.has("pixels", this.asked(unit)) || state.network.outputs.includes(unit.layer) && source.has("pixels", { layer: unit.layer, unit: unit.unit.join(","), against: "next" });
  }

  /** Whether the unit is one of several scores, so that another can be subtracted. */
  competes(unit) {
    const layer = this.app.layerNamed(unit.layer);
    return this.app.state.network.outputs.includes(unit.layer) && layer.shape[0] > 1;
  }

  asked(unit) {
    const against = this.competes(unit) && String(this.against) !== String(unit.unit[0]) ? this.against : this.competes(unit) ? "next" : "";
    return { layer: unit.layer, unit: unit.unit.join(","), against };
  }

  async toggle(on) {
    this.on = on;
    if (on) await this.refresh();
    else this.clear();
    if (this.app.unit) this.block(this.app.unit);
    this.app.drawPicture();
    this.app.remembers();
  }

  async choose(against) {
    this.against = against;
    await this.toggle(true);
  }

  /** Ask for the chosen unit. */
  async refresh() {
    const { app } = this;
    const { unit } = app;
    this.clear();
    if (!this.on || !unit || !this.possible(unit)) return;
    const answer = await app.ask("pixels", this.asked(unit), { slot: "pixels", show: (error) => { this.refused = [error.message, error.cure].filter(Boolean).join("; "); } });
    if (!answer || app.unit !== unit) return;
    this.answer = answer.data;
    this.picture = this.painted(answer);
  }

  /** The shares over the dimmed picture, each spread over its neighbors so that strokes are seen. */
  painted({ data, raw }) {
    const [, high, wide] = data.shape;
    const shares = new Float32Array(raw);
    const spread = spreadOut(shares, high, wide, Math.max(1, Math.round(Math.min(high, wide) / 28)));
    const largest = spread.reduce((most, share) => Math.max(most, Math.abs(share)), 0) || 1;
    const image = new ImageData(Math.max(1, wide), Math.max(1, high));
    for (let i = 0; i < wide * high; i++) {
      image.data.set([...(spread[i] > 0 ? RAISES : LOWERS), Math.round(255 * Math.sqrt(Math.abs(spread[i]) / largest))], 4 * i);
    }
    return { canvas: canvasOf(image), box: data.box, shares };
  }

  /** For the pane; null where nothing is shown. */
  shown() {
    return this.on && this.picture ? { ...this.picture, dim: { canvas: canvasOf(DIM), box: this.picture.box, alpha: 0.55 } } : null;
  }

  /** What one pixel adds. */
  textAt(row, column) {
    if (!this.shown()) return "";
    const [top, bottom, left, right] = this.picture.box;
    const [i, j] = [Math.floor(row) - top, Math.floor(column) - left];
    if (i < 0 || j < 0 || i >= bottom - top || j >= right - left) return "";
    return `${say("adds")} ${show(this.picture.shares[i * (right - left) + j], 3)}`;
  }

  /** What is known of this unit, in the element that stays; null where nothing can be asked. */
  block(unit) {
    if (!this.possible(unit)) return null;
    refill(this.root,
      h("div", { class: "heading" },
        h("label", { class: "check", title: say("evidenceHint") },
          h("input", { type: "checkbox", checked: this.on, onchange: (event) => this.toggle(event.target.checked) }),
          " ", h("h3", {}, say("evidence"))),
        this.on && this.competes(unit) ? this.chooser(unit) : null),
      this.refused ? h("p", { class: "refusal" }, this.refused) : null,
      this.on && this.answer ? this.found(this.answer) : null);
    return this.root;
  }

  /** Chooses which score is subtracted. */
  chooser(unit) {
    const { source, state } = this.app;
    const count = this.app.layerNamed(unit.layer).shape[0];
    const { against } = this.asked(unit);
    const choices = [["next", say("againstNext")], ["", say("againstNone")],
      ...Array.from({ length: Math.min(count, 1000) }, (_, i) => [String(i), say("againstOne", state.network.classes[i] ?? i)]).filter((_, i) => i !== unit.unit[0])];
    const there = source.live ? choices : choices.filter(([key]) => source.has("pixels", { ...this.asked(unit), against: key }));
    return h("select", { "aria-label": say("evidence"), onchange: (event) => this.choose(event.target.value) },
      there.map(([key, text]) => h("option", { value: key, selected: key === String(against) }, text)));
  }

  found(answer) {
    const { names, margin, score, other, against, pixels, rest, linear, regions } = answer;
    const lead = against === null ? say("scoreOf", names[0], show(score))
      : say(margin < 0 ? "isBehind" : "leads", names[0], names[1], show(Math.abs(margin)));
    const places = Object.entries(regions);
    const largest = Math.max(1e-30, ...places.map(([, share]) => Math.abs(share)));
    return [
      h("p", { class: "lead" }, lead, against === null ? null : h("span", { class: "soft" }, `  ${show(score)} − ${show(other).startsWith("−") ? `(${show(other)})` : show(other)}`)),
      this.app.state.picture.wide ? null : h("div", { class: "thirds" }, // of a wide picture only a window is known
        h("div", { class: "nine", role: "img", "aria-label": say("thirds") }, places.map(([place, share]) => h("span", {
          class: isDark(share, largest, true) ? "light" : null, title: say("at_" + place.replace(" ", "_")), style: { background: colorOf(share, largest, true) },
        }, show(share, 2)))),
        h("p", {}, this.sentence(names, against))),
      h("p", { class: "swatches" }, this.swatch(RAISES, say("raises", names[0])), this.swatch(LOWERS, against === null ? say("lowers", names[0]) : say("raises", names[1]))),
      h("p", { class: "faint" }, say("pixelsAndRest", show(pixels), show(rest)), " ", say(linear ? "sharesExact" : linear === null ? "sharesUnknown" : "sharesCurved"))];
  }

  swatch(color, text) {
    return h("span", { class: "swatch" }, h("i", { style: { background: `rgb(${color})` } }), text);
  }

  /** The thirds whose pixels speak most for the number, and those whose pixels speak most against it. */
  sentence(names, against) {
    const { shares, box: [top, bottom, left, right] } = this.picture;
    const [high, wide] = [bottom - top, right - left];
    const [raising, lowering] = [new Map(), new Map()];
    for (let i = 0; i < shares.length; i++) {
      const [row, column] = [Math.floor(i / wide), i % wide];
      const place = placeOf([row, high], [column, wide]);
      const side = shares[i] > 0 ? raising : lowering;
      if (shares[i]) side.set(place, (side.get(place) ?? 0) + shares[i]);
    }
    const list = (sums) => {
      const sorted = [...sums].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
      const total = sorted.reduce((sum, [, share]) => sum + Math.abs(share), 0);
      return sorted.filter(([, share]) => Math.abs(share) > 0.1 * total).slice(0, 3)
        .map(([place, share]) => `${say("at_" + place)} (${share > 0 ? "+" : ""}${show(share, 3)})`).join(say("comma"));
    };
    return [raising.size ? say("mostFor", names[0], list(raising)) : "",
      lowering.size ? say(against === null ? "mostLower" : "mostFor", names[against === null ? 0 : 1], list(lowering)) : ""].filter(Boolean).join(" ");
  }
}

/** The name of the third that a pixel lies in, by the library's cuts. */
function placeOf(...sides) {
  const [row, column] = sides.map(([at, count]) => [1, 2].filter((third) => at >= Math.round((count * third) / 3)).length);
  const [down, across] = [["top", "middle", "bottom"][row], ["left", "middle", "right"][column]];
  return down === across ? "middle" : `${down}_${across}`;
}

/** Sums kept, each number shared out by the weights 1 2 1 along both axes, some times over. */
function spreadOut(numbers, high, wide, times) {
  let now = Float32Array.from(numbers, (one) => (Number.isFinite(one) ? one : 0));
  for (let turn = 0; turn < times; turn++) {
    for (const [step, count, across, lines] of [[1, wide, wide, high], [wide, high, 1, wide]]) {
      const next = new Float32Array(now.length);
      for (let line = 0; line < lines; line++) {
        for (let i = 0; i < count; i++) {
          const at = line * across + i * step;
          next[at] += now[at] / 2;
          next[i > 0 ? at - step : at] += now[at] / 4;
          next[i < count - 1 ? at + step : at] += now[at] / 4;
        }
      }
      now = next;
    }
  }
  return now;
}
