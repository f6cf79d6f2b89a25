// Prediction, truth and error laid over the picture, to be faded.

import { canvasOf } from "./colors.js";
import { h, refill } from "./dom.js";
import { Lattice } from "./views.js";
import { say } from "./words.js";

const UNLABELED = 255;
// Okabe and Ito's colors, which any eye tells apart.
const COLORS = [[0, 114, 178], [230, 159, 0], [0, 158, 115], [204, 121, 167], [86, 180, 233], [213, 94, 0], [240, 228, 66]];
const WRONG = [220, 38, 127];

/** After the first seven each hue lies a golden angle from the one before, in turn darker and lighter. */
export function colorOfClass(number) {
  if (number < COLORS.length) return COLORS[number];
  const hue = ((number - COLORS.length) * 137.508 + 20) % 360;
  const light = [0.4, 0.62, 0.27][number % 3];
  const reach = 0.75 * Math.min(light, 1 - light);
  return [0, 8, 4].map((shift) => {
    const place = (shift + hue / 30) % 12;
    return Math.round(255 * (light - reach * Math.max(-1, Math.min(place - 3, 9 - place, 1))));
  });
}
const share = (part, whole) => `${Number(((100 * part) / whole).toPrecision(3))} %`;
const css = (color) => `rgb(${color.join(" ")})`;

export class Overlay {
  constructor(app) {
    this.app = app;
    this.kind = "";
    this.opacity = 0.55;
    this.answer = null;
    this.key = null;
    this.root = h("div", { class: "overlay", hidden: true });
  }

  /** What there is to be laid over this picture. */
  kinds() {
    const known = this.app.state.overlay;
    if (!known || (!this.app.source.live && !this.app.source.has("overlay", { kind: "prediction" }))) return [];
    if (this.app.beside.side === "difference") return ["prediction"];
    return ["prediction", "truth", "error"].slice(0, known.truth === null ? 1 : known.pixel === null ? 2 : 3);
  }

  render() {
    const kinds = this.kinds();
    this.renderedFor = this.app.state;
    this.root.hidden = !kinds.length;
    if (!kinds.includes(this.kind)) this.kind = "";
    const choose = h("select", { "aria-label": say("overlay"), onchange: (event) => this.choose(event.target.value) },
      ["", ...kinds].map((one) => h("option", { value: one, selected: one === this.kind }, say(one === "error" ? "mistakes" : one || "nothing"))));
    const fade = h("input", { type: "range", min: 0, max: 100, step: 5, value: Math.round(100 * this.opacity), "aria-label": say("opacity"),
      title: say("opacity"), oninput: (event) => {
        this.opacity = Number(event.target.value) / 100;
        this.app.drawPicture();
        this.app.remembers();
      } });
    refill(this.root, h("label", { class: "faint" }, say("overlay"), " ", choose), this.kind ? fade : null, this.kind ? this.legend() : null);
  }

  legend() {
    const swatch = (color, text) => h("span", { class: "swatch" }, h("i", { style: { background: css(color) } }), text);
    if (this.refused) return h("span", { class: "faint" }, this.refused);
    if (this.app.beside.side === "difference") {
      const { wrong, labeled } = this.answer ? this.answer.data : {};
      return swatch(WRONG, labeled ? say("differOf", share(wrong, labeled), labeled.toLocaleString("en-US")) : say("differs"));
    }
    if (this.kind === "error") {
      const { wrong, labeled } = this.answer ? this.answer.data : {};
      return swatch(WRONG, labeled ? say("wrongOf", share(wrong, labeled), labeled.toLocaleString("en-US")) : say("mistakes"));
    }
    const { classes } = this.app.state.overlay;
    return h("span", { class: "swatches" }, classes.map((one, i) => swatch(colorOfClass(i), one)));
  }

  async choose(kind) {
    if (kind) this.app.only("overlay");
    this.kind = kind;
    this.renderedFor = null;
    await this.refresh();
    this.app.remembers();
  }

  /** Take it away. */
  off() {
    this.kind = "";
    this.answer = this.key = null;
    this.render();
  }

  /** Ask for what is in view, where that is not there yet. */
  async refresh() {
    const { app } = this;
    const { state } = app;
    if (!this.kinds().includes(this.kind) || !state.network.runs) {
      if (this.answer === null && this.renderedFor === state) return;
      this.answer = this.key = null;
      this.render();
      app.drawPicture();
      return;
    }
    const layer = app.layerNamed(state.overlay.layer);
    const { pixel } = state.overlay;
    const lattice = this.kind === "truth" ? pixelsFrom([0, 0]) : pixel ? pixelsFrom(pixel) : new Lattice(layer, state.picture.size);
    const size = this.kind === "truth" ? state.picture.size : layer.planes.slice(1);
    const asked = app.viewed(lattice, size);
    const key = JSON.stringify([state.picture.id, app.editsText(), app.stamp, app.beside.side, this.kind, asked]);
    if (key === this.key) return;
    this.refused = "";
    const answer = await app.ask("overlay", { kind: this.kind, ...asked }, { slot: "overlay", show: (error) => { this.refused = [error.message, error.cure].filter(Boolean).join("; "); } });
    if (!answer && !this.refused) return;
    this.key = answer ? key : null;
    this.answer = answer;
    this.picture = answer ? this.paint(answer, lattice) : null;
    this.render();
    app.drawPicture();
  }

  paint({ data, raw }, lattice) {
    const [high, wide] = data.shape;
    const numbers = new Uint8Array(raw);
    const image = new ImageData(Math.max(1, wide), Math.max(1, high));
    const marks = this.kind === "error" || this.app.beside.side === "difference";
    for (let i = 0; i < numbers.length; i++) {
      if (numbers[i] === UNLABELED || (marks && !numbers[i])) continue;
      image.data.set([...(marks ? WRONG : colorOfClass(numbers[i])), 255], 4 * i);
    }
    const [top, , left] = data.box;
    return { canvas: canvasOf(image), box: lattice.box(top, top + high * data.step, left, left + wide * data.step), numbers, lattice };
  }

  /** For the pane; null where nothing is laid over. */
  shown() {
    return this.kind && this.answer && this.picture ? { ...this.picture, alpha: this.opacity } : null;
  }

  /** What it says at a point of the picture. */
  textAt(row, column) {
    if (!this.shown()) return "";
    const { data } = this.answer;
    const place = this.picture.lattice.unit(row, column);
    if (!place) return "";
    const [i, j] = [Math.floor((place[0] - data.box[0]) / data.step), Math.floor((place[1] - data.box[2]) / data.step)];
    if (i < 0 || j < 0 || i >= data.shape[0] || j >= data.shape[1]) return "";
    const number = this.picture.numbers[i * data.shape[1] + j];
    if (this.app.beside.side === "difference") return say(number ? "differs" : "agrees");
    if (number === UNLABELED) return `${say("unlabeled")}`;
    return this.kind === "error" ? say(number ? "wrong" : "right_") : `${say(this.kind)} ${this.app.state.overlay.classes[number] ?? number}`;
  }
}

/** Each unit on a pixel, the first one on this. */
function pixelsFrom([down, right]) {
  return {
    axes: [{ stride: 1, start: down }, { stride: 1, start: right }],
    unit: (row, column) => [Math.floor(row) - down, Math.floor(column) - right],
    units: (box) => [Math.floor(box[0]) - down, Math.ceil(box[1]) - down, Math.floor(box[2]) - right, Math.ceil(box[3]) - right],
    box: (top, bottom, left, right_) => [top + down, bottom + down, left + right, right_ + right],
  };
}
