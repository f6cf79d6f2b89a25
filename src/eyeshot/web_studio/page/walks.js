// The kernel playground: a window over a small matrix, each step a sum; the server does the sums.

import { paleColorOf } from "./colors.js";
import { h, refill, show } from "./dom.js";
import { say } from "./words.js";

const OPERATIONS = ["conv", "transpose", "pool", "nearest", "bilinear"];
const KERNELS = {
  "3×3": "1 0 1 / 0 1 0 / 1 0 1", Sobel: "1 0 -1 / 2 0 -2 / 1 0 -1", Laplace: "0 1 0 / 1 -4 1 / 0 1 0",
  Mean: "0.1111 0.1111 0.1111 / 0.1111 0.1111 0.1111 / 0.1111 0.1111 0.1111", "1×1": "2",
};
const MOST_SIDE = 12; // rows and columns of a matrix that is typed

export class WalkPanel {
  constructor(app) {
    this.app = app;
    this.root = h("main", { class: "playground", hidden: true });
    this.asked = { operation: "conv" };
    this.at = 0;
    this.timer = null;
  }

  /** Show it, from what the address says. */
  async open(asked) {
    if (asked && OPERATIONS.includes(asked.operation)) this.asked = asked;
    await this.update();
  }

  async update() {
    const answer = await this.app.ask("walk", this.asked, { slot: "walk", show: (error) => this.fail(error) });
    if (!answer) return;
    this.walk = answer.data;
    if (this.app.source.live) this.asked = { ...answer.data.asked };
    this.shownAs = answer.data.asked;
    this.at = Math.min(this.at, this.walk.steps.length - 1);
    this.app.remember();
    this.render();
  }

  fail(error) {
    const place = this.root.querySelector(".refusal");
    if (place) refill(place, error.message, error.cure ? h("span", { class: "faint" }, ` ${error.cure}`) : null);
    else refill(this.root, h("p", { class: "refusal" }, error.message));
  }

  set(changes) {
    Object.assign(this.asked, changes);
    this.update();
  }

  render() {
    const { walk } = this;
    const asked = this.shownAs;
    const step = walk.steps[this.at];
    const filled = walk.made.some((row) => row.some(Boolean));
    const read = new Map(step.terms.map((term) => [String(term.at), term]));
    refill(this.root,
      this.controls(),
      h("p", { class: "refusal", role: "alert" }),
      h("div", { class: "stage" },
        this.matrix(say("inputMatrix"), walk.input, { edit: "input", read: filled ? null : read }),
        filled ? this.matrix(asked.operation === "transpose" ? say("inserted") : say("padded"), walk.read, { read, made: walk.made }) : null,
        walk.kernel ? this.matrix(say("kernelMatrix"), walk.kernel, { edit: "kernel" }) : null,
        this.matrix(say("output"), walk.output, { output: step.output, pick: true })),
      h("div", { class: "walker" },
        h("button", { class: "small", onclick: () => this.play() }, this.timer ? say("pause") : say("play")),
        h("input", {
          type: "range", min: 0, max: walk.steps.length - 1, value: String(this.at), "aria-label": say("step", "", ""),
          oninput: (event) => this.go(Number(event.target.value)),
        }),
        h("span", { class: "faint" }, say("step", this.at + 1, walk.steps.length))),
      h("p", { class: "formula mono" }, step.formula));
  }

  go(step) {
    this.at = (step + this.walk.steps.length) % this.walk.steps.length;
    this.render();
    const slider = this.root.querySelector("input[type=range]");
    if (!this.timer && slider) slider.focus({ preventScroll: true });
  }

  play() {
    if (this.timer) {
      clearInterval(this.timer);
      this.timer = null;
      this.render();
      return;
    }
    this.timer = setInterval(() => {
      if (this.root.hidden) this.play();
      else this.go(this.at + 1);
    }, 700);
    this.render();
  }

  controls() {
    const asked = this.shownAs;
    const live = this.app.source.live;
    const number = (name, label, least = 1) => asked[name] === undefined ? null : h("label", {}, label,
      h("input", { type: "number", min: least, max: 9, value: String(asked[name]), disabled: !live,
        onchange: (event) => this.set({ [name]: event.target.value }) }));
    const choice = (name, label, options) => asked[name] === undefined ? null : h("label", {}, label,
      h("select", { disabled: !live, onchange: (event) => this.set({ [name]: event.target.value }) },
        options.map(([value, text]) => h("option", { value, selected: asked[name] === value }, text))));
    return h("header", { class: "controls" },
      h("div", { class: "tabs", role: "tablist" }, OPERATIONS.map((one) => h("button", {
        role: "tab", "aria-selected": String(one === asked.operation),
        onclick: () => { this.asked = { operation: one }; this.at = 0; this.update(); },
      }, say(one)))),
      h("div", { class: "fields" },
        choice("pool", "", [["max", say("largest")], ["avg", say("mean")]]),
        number("size", say("size")), number("stride", say("stride")), number("padding", say("padding"), 0),
        number("dilation", say("dilation")),
        choice("mode", say("mode"), ["zeros", "reflect", "replicate", "circular"].map((one) => [one, say(one)])),
        asked.scale === undefined ? null : h("label", {}, say("scale"), h("input", { type: "number", min: 1, max: 4, step: 0.5,
          value: String(asked.scale), disabled: !live, onchange: (event) => this.set({ scale: event.target.value }) })),
        asked.operation === "conv" && live ? h("span", { class: "presets" }, Object.entries(KERNELS).map(([name, kernel]) =>
          h("button", { class: "chip", onclick: () => this.set({ kernel }) }, name === "Mean" ? say("meanKernel") : name))) : null));
  }

  matrix(name, values, { edit = null, read = null, made = null, output = null, pick = false } = {}) {
    const flat = values.flat().filter((one) => one !== null);
    const most = Math.max(1e-30, ...flat.map(Math.abs));
    const cells = values.flatMap((row, i) => row.map((value, j) => {
      const term = read && read.get(`${i},${j}`);
      const here = output && output[0] === i && output[1] === j;
      const filler = made && made[i][j];
      const style = value === null ? {} : { background: paleColorOf(value, most) };
      const className = "cell" + (filler ? " away" : "") + (term ? " read" : "") + (here ? " here" : "");
      if (edit && this.app.source.live) {
        return h("input", { class: className, style, value: String(value), "aria-label": `${name} ${i}, ${j}`, inputmode: "decimal",
          onchange: (event) => this.type(edit, values, i, j, event.target.value) });
      }
      return h(pick ? "button" : "span", {
        class: className, style: filler ? {} : style, onclick: pick ? () => this.go(i * row.length + j) : null,
        title: term ? `${show(term.value)} · ${show(term.weight)}` : null,
      }, value === null ? "" : show(value, 3), term && !pick && this.walk.kernel ? h("sub", {}, "×" + show(term.weight, 2)) : null);
    }));
    return h("figure", { class: "matrix" },
      h("figcaption", {}, name, h("span", { class: "faint" }, ` ${values.length}×${values[0].length}`),
        edit && this.app.source.live ? h("span", { class: "sizes" },
          h("button", { class: "chip", title: "−", onclick: () => this.resize(edit, values, -1) }, "−"),
          h("button", { class: "chip", title: "+", onclick: () => this.resize(edit, values, 1) }, "+")) : null),
      h("span", { class: "grid large", style: { "--columns": String(values[0].length) } }, cells));
  }

  type(name, values, i, j, text) {
    const changed = values.map((row) => [...row]);
    changed[i][j] = text.trim() === "" ? 0 : text.replace(",", ".").replace("−", "-");
    this.send(name, changed);
  }

  /** A matrix as it was typed; the kernel of a transposed convolution is shown turned around. */
  send(name, rows) {
    const turned = name === "kernel" && this.asked.operation === "transpose"
      ? rows.map((row) => [...row].reverse()).reverse() : rows;
    this.set({ [name]: turned.map((row) => row.join(" ")).join(" / ") });
  }

  resize(name, values, by) {
    const side = [values.length + by, values[0].length + by];
    if (Math.min(...side) < 1 || Math.max(...side) > MOST_SIDE) return;
    const changed = Array.from({ length: side[0] }, (_, i) => Array.from({ length: side[1] }, (_, j) => (values[i] || [])[j] ?? 0));
    this.send(name, changed);
  }
}
