// Trying out: a digit to draw, channels to mute, kernels to change, and the answer beside it.

import { h, refill, show, svg } from "./dom.js";
import { paced } from "./dom.js";
import { say } from "./words.js";

const SIDE = 28 * 8; // of the canvas to draw on
const PEN = 17;

/** Bars for the likeliest classes. */
export function answerBars(app) {
  const { prediction } = app.state;
  if (!prediction) return null;
  const top = [...prediction.top].sort((a, b) => a.index - b.index);
  const best = prediction.top[0];
  const other = app.state.beside && app.state.beside.prediction;
  const track = (probability) => h("span", { class: "track" }, h("span", { style: { "--share": (probability ?? 0).toFixed(4) } }));
  const percent = (probability) => h("span", { class: "mono" }, probability === undefined ? "–" : (100 * probability).toFixed(1) + " %");
  const shares = (one) => {
    if (!other) return [track(one.probability), percent(one.probability)];
    const twin = other.top.find((each) => each.index === one.index)?.probability;
    return [h("span", { class: "tracks" }, track(one.probability), track(twin)), percent(one.probability), percent(twin)];
  };
  return h("div", { class: "answer" },
    h("h3", {}, say("predicted"), h("strong", { class: "verdict" }, best.class, other ? h("span", { class: "second" }, ` · ${other.top[0].class}`) : null)),
    randomNotes(app),
    h("button", { class: "small read-as", title: say("whyHint"), onclick: () => app.whyOf(prediction.layer, [best.index]) }, say("readAs", best.class)),
    other ? h("p", { class: "versus" }, h("span", { class: "first" }, app.beside.name("")), " · ", h("span", { class: "second" }, app.beside.name("other"))) : null,
    h("ol", { class: "bars" + (other ? " two" : "") + (top.some((one) => one.class.length > 2) ? " named" : "") }, (top.length <= 10 && app.state.network.classes.length <= 10 ? top : prediction.top).map((one) =>
      h("li", { class: one === best || one.index === best.index ? "best" : null },
        h("button", {
          class: "plain", title: `${prediction.layer} [${one.index}]`,
          onclick: () => app.choose({ layer: prediction.layer, unit: [one.index], trail: "new" }),
        }, h("span", { class: "class" }, one.class),
        shares(one))))));
}

/** That weights are random numbers, for each network of which it is known. */
export function randomNotes(app) {
  const { network, beside } = app.state;
  return [network, beside].filter((one) => one && one.random[0]).map(({ name, random: [some, all] }) =>
    h("p", { class: "warning", role: "note" }, beside ? `${name}${say("colon")}` : "",
      say(some === all ? "allRandom" : "someRandom", some.toLocaleString("en-US"), all.toLocaleString("en-US")), " ", h("code", {}, "--weights FILE")));
}

/** What a training has measured so far, epoch by epoch. */
export function learningCurve({ rows, epochs }) {
  const [wide, high] = [178, 96];
  const columns = rows.length ? Object.keys(rows[0]).filter((one) => /loss$/.test(one)) : [];
  const most = Math.max(1e-12, ...rows.flatMap((row) => columns.map((one) => row[one])).filter(Number.isFinite));
  const lines = columns.map((name, index) => svg("polyline", {
    class: index ? "second" : "first",
    points: rows.map((row, i) => `${(4 + (i * (wide - 8)) / Math.max(1, epochs - 1)).toFixed(1)},${(high - 4 - (high - 8) * (row[name] / most)).toFixed(1)}`).join(" "),
  }));
  return h("div", { class: "learning" },
    h("h3", {}, say("training"), h("span", { class: "faint" }, say("epoch", rows.length, epochs))),
    svg("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": say("training") }, lines),
    h("p", { class: "faint" }, columns.map((name, index) => h("span", { class: index ? "second" : "first" },
      `${name.replace("_", " ")} ${rows.length ? show(rows[rows.length - 1][name], 3) : ""}  `))));
}

/** A square to draw a digit on; each stroke is answered as it is drawn. */
export class DrawingBoard {
  constructor(app) {
    this.app = app;
    this.canvas = h("canvas", { class: "board", width: SIDE, height: SIDE, tabindex: 0 });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.blank = true;
    this.pen = PEN;
    this.wipe();
    const send = paced(60, () => this.send());
    let last = null;
    const place = (event) => [event.offsetX * (SIDE / this.canvas.clientWidth), event.offsetY * (SIDE / this.canvas.clientHeight)];
    const stroke = (event) => {
      const point = place(event);
      const context = this.context;
      context.strokeStyle = "#fff";
      context.lineWidth = this.pen;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(...(last || [point[0] - 0.01, point[1]]));
      context.lineTo(...point);
      context.stroke();
      last = point;
      this.blank = false;
      send();
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      last = null;
      stroke(event);
    });
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons) stroke(event); });
    this.canvas.addEventListener("pointerup", () => { last = null; });
  }

  wipe() {
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, SIDE, SIDE);
    this.blank = true;
  }

  async send() {
    if (this.blank) return;
    const { data } = this.context.getImageData(0, 0, SIDE, SIDE);
    const gray = new Uint8Array(SIDE * SIDE);
    for (let i = 0; i < gray.length; i++) gray[i] = data[4 * i];
    const before = this.app.picture;
    const answer = await this.app.ask("draw", { size: `${SIDE},${SIDE}` }, { body: gray, slot: "draw" });
    if (answer && !this.blank && before === this.app.picture) await this.app.load({ picture: answer.data.id });
  }

  element() {
    this.canvas.setAttribute("aria-label", say("draw"));
    return h("div", { class: "drawing" },
      h("h3", {}, h("span", {}, say("draw")),
        h("button", { class: "small", onclick: () => { this.wipe(); this.app.load({ picture: "" }); } }, say("clear"))),
      this.canvas,
      h("input", { type: "range", min: 6, max: 40, value: this.pen, "aria-label": say("brush"), title: say("brush"),
        oninput: (event) => { this.pen = Number(event.target.value); } }),
      h("p", { class: "faint" }, say("drawHint")));
  }
}

/** A brush for the picture that is shown; every layer answers as it is moved. */
export class Brush {
  constructor(app) {
    this.app = app;
    this.on = false;
    this.wide = null; // pixels across; by default a twentieth of the picture
    this.tone = 2; // 1 the least value of each channel, 2 the largest, 3 the mean
    this.send = paced(80, () => this.sent());
    this.root = h("div", { class: "brush" });
  }

  render() {
    const { app } = this;
    const { picture, network } = app.state;
    this.root.hidden = !app.source.live || picture.wide || !network.runs;
    if (this.root.hidden) this.on = false;
    if (this.painted !== app.picture) this.clear();
    refill(this.root,
      h("button", { class: "small", "aria-pressed": String(this.on), title: say("paintHint"), onclick: () => {
        this.on = !this.on;
        this.render();
      } }, say("paint")),
      this.on ? h("select", { "aria-label": say("paint"), onchange: (event) => { this.tone = Number(event.target.value); } },
        [[2, "brightest"], [1, "darkest"], [3, "meanTone"]].map(([tone, key]) => h("option", { value: tone, selected: tone === this.tone }, say(key)))) : null,
      this.on ? this.slider() : null,
      this.strokes ? h("button", { class: "small", onclick: () => this.undo() }, say("reset")) : null);
  }

  /** Pixels across. */
  width() {
    const side = Math.min(...this.app.state.picture.size);
    return this.wide === null ? Math.max(1, Math.round(side / 20)) : Math.min(this.wide, side);
  }

  slider() {
    const side = Math.min(...this.app.state.picture.size);
    const told = h("span", { class: "faint mono" }, say("pixels", this.width()));
    return h("label", { class: "width" }, h("input", { type: "range", min: 1, max: Math.max(2, Math.ceil(side / 3)), value: this.width(), "aria-label": say("brush"), title: say("brush"),
      oninput: (event) => {
        this.wide = Number(event.target.value);
        told.textContent = say("pixels", this.wide);
      } }), told);
  }

  /** A stroke from one point of the picture to another; whether it was painted. */
  stroke([row, column], [fromRow, fromColumn]) {
    const { app } = this;
    if (!this.on) return false;
    const [high, wide] = app.state.picture.size;
    if (!this.strokes || this.painted !== app.picture) {
      if (app.slots.has("state")) return true; // what is shown is about to change
      this.base = app.state.picture.id;
      this.strokes = new Uint8Array(high * wide);
    }
    const radius = Math.max(0.6, this.width() / 2);
    const steps = Math.max(1, Math.ceil(Math.hypot(row - fromRow, column - fromColumn) / Math.max(0.5, radius / 2)));
    for (let k = 0; k <= steps; k++) {
      const [y, x] = [fromRow + ((row - fromRow) * k) / steps, fromColumn + ((column - fromColumn) * k) / steps];
      for (let i = Math.max(0, Math.floor(y - radius)); i <= Math.min(high - 1, y + radius); i++) {
        for (let j = Math.max(0, Math.floor(x - radius)); j <= Math.min(wide - 1, x + radius); j++) {
          if (Math.hypot(i + 0.5 - y, j + 0.5 - x) <= radius) this.strokes[i * wide + j] = this.tone;
        }
      }
    }
    this.painted = app.picture;
    this.send();
    return true;
  }

  async sent() {
    const { app, strokes } = this;
    const current = () => strokes && strokes === this.strokes && this.painted === app.picture;
    if (!current()) return; // undone, or another picture was chosen
    const answer = await app.ask("paint", { picture: this.base }, { body: strokes.slice(), slot: "paint" });
    if (!answer || !current()) return;
    this.painted = answer.data.id;
    await app.load({ picture: answer.data.id });
    this.render();
  }

  clear() {
    this.strokes = this.base = this.painted = null;
  }

  undo() {
    const { base } = this;
    this.clear();
    this.app.load({ picture: base });
  }
}

/** What has been changed in the network, each to be undone. */
export function editChips(app) {
  const { mute, set } = app.edits;
  if (!mute.length && !set.length) return null;
  return h("div", { class: "edits" },
    h("strong", {}, say("edits")),
    mute.map(([layer, channel], i) => h("button", { class: "chip", title: say("unmute"), onclick: () => {
      mute.splice(i, 1);
      app.edited();
    } }, say("muted", layer, channel), h("span", { "aria-hidden": "true" }, " ×"))),
    set.map(([layer, out, into], i) => h("button", { class: "chip", onclick: () => {
      set.splice(i, 1);
      app.edited();
    } }, say("changed", layer, out, into), h("span", { "aria-hidden": "true" }, " ×"))),
    h("label", { class: "check" }, h("input", {
      type: "checkbox", checked: app.difference,
      onchange: (event) => app.showDifference(event.target.checked),
    }), " ", say("difference")),
    h("button", { class: "small", onclick: () => {
      app.edits = { mute: [], set: [] };
      app.difference = false;
      app.edited();
    } }, say("reset")));
}

/** The kernels of one output channel as numbers that can be typed over. */
export async function kernelEditor(app, layer, channel, place) {
  const answer = await app.ask("kernel", { layer, channel });
  if (!answer) return;
  const [inputs, ...window] = answer.data.shape;
  const numbers = new Float32Array(answer.raw);
  const cells = window.reduce((a, b) => a * b, 1);
  const wide = window[window.length - 1] || 1;
  const shown = Math.min(inputs, 64);
  const change = (into) => {
    const values = [...numbers.slice(into * cells, (into + 1) * cells)];
    app.edits.set = app.edits.set.filter(([l, o, i]) => !(l === layer && o === channel && i === into));
    app.edits.set.push([layer, channel, into, values]);
    app.edited();
  };
  refill(place, h("div", { class: "kernels" }, Array.from({ length: shown }, (_, into) =>
    h("figure", {}, h("figcaption", { class: "faint" }, `${say("input")} ${into}`),
      h("span", { class: "editing", style: { "--columns": String(wide) } }, Array.from({ length: cells }, (_, cell) =>
        h("input", {
          type: "number", step: "0.1", value: String(Number(numbers[into * cells + cell].toPrecision(4))),
          "aria-label": `${layer} ${channel}, ${into}, ${cell}`,
          onchange: (event) => {
            const value = Number(event.target.value);
            if (!Number.isFinite(value)) return;
            numbers[into * cells + cell] = value;
            change(into);
          },
        })))))));
}
