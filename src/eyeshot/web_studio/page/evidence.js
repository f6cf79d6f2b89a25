// What each pixel adds to a number: two colors over the gray picture, and the same in words.

import { canvasOf, colorOf, isDark } from "./colors.js";
import { by, h, refill, show } from "./dom.js";
import { say } from "./words.js";

// As the bars of a sum: red raises the number, blue lowers it, and any eye tells them apart.
const RAISES = [214, 96, 77];
const LOWERS = [67, 147, 195];
const SEEN = 4; // screen pixels that one color takes at least
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
    this.whole = null;
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
    if (on) this.app.only("evidence");
    this.on = on;
    if (on) await this.refresh();
    else this.clear();
    this.again();
    this.app.drawPicture();
    this.app.remembers();
  }

  /** Show what is known of the chosen unit; what else stands beside it stays. */
  again() {
    if (this.app.unit) this.block(this.app.unit);
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
    this.whole = answer;
    this.picture = this.painted(answer);
  }

  /** A color for each pixel that adds something; the others stay clear. */
  painted({ data, raw }) {
    const shares = Float32Array.from(new Float32Array(raw), (one) => (Number.isFinite(one) ? one : 0));
    const [, high, wide] = data.shape;
    const block = this.blockInView();
    const sums = summed(shares, high, wide, block);
    const full = fullColor(sums.values);
    const image = new ImageData(Math.max(1, wide), Math.max(1, high));
    for (let i = 0; i < wide * high; i++) {
      const sum = sums.at(Math.floor(i / wide), i % wide);
      if (shares[i] === 0 || sum === 0) continue;
      image.data.set([...(sum > 0 ? RAISES : LOWERS), Math.round(255 * Math.min(1, Math.abs(sum) / full))], 4 * i);
    }
    return { canvas: canvasOf(image), box: data.box, shares, full, block, sums };
  }

  /** So many pixels along a side get one color that it is seen: 1, 2, 4 and so on, by the zoom. */
  blockInView() {
    return 2 ** Math.max(0, Math.ceil(Math.log2(SEEN / this.app.viewport.scale)));
  }

  /** After a zoom: whether other pixels get one color now. */
  zoomed() {
    if (!this.shown() || this.picture.block === this.blockInView()) return false;
    this.picture = this.painted(this.whole);
    this.again();
    return true;
  }

  /** For the pane; null where nothing is shown. */
  shown() {
    return this.on && this.picture ? { ...this.picture, dim: { canvas: canvasOf(DIM), box: this.picture.box, alpha: 0.65 } } : null;
  }

  /** What one pixel adds. */
  textAt(row, column) {
    if (!this.shown()) return "";
    const [top, bottom, left, right] = this.picture.box;
    const [i, j] = [Math.floor(row) - top, Math.floor(column) - left];
    if (i < 0 || j < 0 || i >= bottom - top || j >= right - left) return "";
    const { block, shares, sums } = this.picture;
    const around = block > 1 ? `   ${say("blockAdds", by([block, block]), show(sums.at(i, j), 3))}` : "";
    return `${say("adds")} ${show(shares[i * (right - left) + j], 3)}${around}`;
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
    const { margin, score, other, against, pixels, rest, linear } = answer;
    const [name, second] = this.called(answer);
    const lead = against === null ? say("scoreOf", name, show(score))
      : say(margin < 0 ? "isBehind" : "leads", name, second, show(Math.abs(margin)));
    const opposed = pixels * margin < 0;
    return [
      h("p", { class: "lead" }, lead, against === null ? null : h("span", { class: "soft" }, `  ${show(score)} − ${show(other).startsWith("−") ? `(${show(other)})` : show(other)}`)),
      this.app.state.picture.wide ? null : this.thirds(answer), // of a wide picture only a window is known
      opposed ? h("p", { class: "balance" }, say("pixelsOpposed", say(pixels > 0 ? this.word("speakFor") : this.word("speakAgainst"), name), signed(pixels), signed(rest), say(linear ? "restExact" : "restCurved"))) : null,
      h("p", { class: "swatches" }, this.swatch(RAISES, say(this.word("raises"), name)),
        this.swatch(LOWERS, against === null ? say(this.word("lowers"), name) : say("raises", second))),
      h("p", { class: "faint" }, say(this.picture.block > 1 ? "dimmedBlocks" : "dimmed", show(this.picture.full, 2), by([this.picture.block, this.picture.block]))),
      h("p", { class: "faint" }, opposed ? "" : say("pixelsAndRest", signed(pixels, 4), signed(rest, 4)), " ", say(linear ? "sharesExact" : linear === null ? "sharesUnknown" : "sharesCurved"))];
  }

  swatch(color, text) {
    return h("span", { class: "swatch" }, h("i", { style: { background: `rgb(${color})` } }), text);
  }

  /** Whether the number is a score of the network, so that pixels can speak for it. */
  isScore() {
    return this.app.state.network.outputs.includes(this.answer.layer);
  }

  /** The word for a score, or the one for a unit between. */
  word(name) {
    return this.isScore() ? name : name + "Unit";
  }

  /** What the number and the subtracted one are called. */
  called({ names, against }) {
    if (!this.isScore()) return names; // such as conv2 [0, 7, 6]
    const { classes } = this.app.state.network;
    return [this.answer.unit[0], against].map((at, i) => (at === null ? "" : classes[at] === undefined ? say("outputOf", at) : names[i]));
  }

  /** What the thirds that the unit sees add, where they are more than one, and a sentence about them. */
  thirds(answer) {
    const [rows, columns] = this.thirdsSeen();
    const seen = rows.flatMap((row) => columns.map((column) => (row === "middle" && column === "middle" ? "middle" : `${row} ${column}`)));
    const largest = Math.max(1e-30, ...seen.map((place) => Math.abs(answer.regions[place])));
    const grid = seen.length === 1 ? null : h("div", { class: "nine", role: "img", "aria-label": say("thirds"), style: { "--columns": String(columns.length) } },
      seen.map((place) => h("span", {
        class: isDark(answer.regions[place], largest, true) ? "light" : null, title: say("at_" + place.replace(" ", "_")),
        style: { background: colorOf(answer.regions[place], largest, true) },
      }, show(answer.regions[place], 2))));
    return h("div", { class: "thirds" }, grid, h("p", {}, this.sentence(answer, seen.length > 1)));
  }

  /** The names of the thirds that the unit's field meets, down and across. */
  thirdsSeen() {
    const { size } = this.app.state.picture;
    const inside = this.app.unit.field.inside;
    return [["top", "middle", "bottom"], ["left", "middle", "right"]].map((names, axis) => {
      const [lo, hi] = inside && inside.length === 2 ? inside[axis] : [0, size[axis]];
      return names.slice(thirdOf(lo, size[axis]), thirdOf(Math.max(lo, hi - 1), size[axis]) + 1);
    });
  }

  /** The thirds whose pixels speak most for the number, and those whose pixels speak most against it. */
  sentence(answer, places) {
    const { shares, box: [top, bottom, left, right] } = this.picture;
    const [name, second] = this.called(answer);
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
        .map(([place, share]) => (places ? `${say("at_" + place)} (${signed(share)})` : signed(share))).join(say("comma"));
    };
    return [raising.size ? say(this.word("mostFor"), name, list(raising)) : "",
      lowering.size ? (answer.against === null ? say(this.word("mostLower"), name, list(lowering)) : say("mostFor", second, list(lowering))) : ""].filter(Boolean).join(" ");
  }
}

/** A number with its sign. */
function signed(value, digits = 3) {
  return (value > 0 ? "+" : "") + show(value, digits);
}

/** The share that gets the full color: all but the largest twentieth lie below it. */
function fullColor(shares) {
  const sizes = shares.filter((one) => one !== 0).map(Math.abs).sort();
  return sizes[sizes.length - 1 - Math.floor(sizes.length / 20)] || 1;
}

/** The numbers added up over squares. */
function summed(numbers, high, wide, block) {
  const across = Math.ceil(wide / block);
  const values = new Float32Array(across * Math.ceil(high / block));
  const index = (row, column) => Math.floor(row / block) * across + Math.floor(column / block);
  for (let i = 0; i < numbers.length; i++) values[index(Math.floor(i / wide), i % wide)] += numbers[i];
  return { values, at: (row, column) => values[index(row, column)] };
}

/** In which third, 0 to 2, a position lies, by the library's cuts. */
function thirdOf(at, count) {
  return [1, 2].filter((third) => at >= Math.round((count * third) / 3)).length;
}

/** The name of the third that a pixel lies in. */
function placeOf(...sides) {
  const [row, column] = sides.map(([at, count]) => thirdOf(at, count));
  const [down, across] = [["top", "middle", "bottom"][row], ["left", "middle", "right"][column]];
  return down === across ? "middle" : `${down}_${across}`;
}
