// The studio: what is chosen, and the panels that show it. Everything shown was asked of a source.

import { Beside } from "./beside.js";
import { canvasOf, colorOf, isDark, scaleBar } from "./colors.js";
import { by, h, paced, refill, show } from "./dom.js";
import { Evidence } from "./evidence.js";
import { NetworkPanel, deadText, tilesOf } from "./network.js";
import { Brush, DrawingBoard, answerBars, editChips, kernelEditor, learningCurve, randomNotes } from "./play.js";
import { saveMap, saveNetwork, savePng, saveSum, saveSumDrawing, saveView } from "./saving.js";
import { Overlay } from "./overlays.js";
import { UnitPanel } from "./unit.js";
import { Lattice, Pane, Viewport, numbersPicture } from "./views.js";
import { WalkPanel } from "./walks.js";
import { LANGUAGES, phrase, say, speak, spoken } from "./words.js";

const WHOLE = 1 << 19; // numbers of a map up to which it is asked for at once
const TILES = 256; // maps shown at once

class Studio {
  constructor(root, source, options) {
    this.root = root;
    this.source = source;
    this.options = options;
    this.state = null;
    this.picture = "";
    this.chosen = { layer: "", channel: 0 };
    this.unit = null;
    this.twin = null; // the same unit of the other network
    this.boxes = null;
    this.trail = [];
    this.opening = null; // the unit whose answer is on its way
    this.chain = null; // why the unit has its value
    this.chained = false; // whether that is shown
    this.beside = new Beside(this);
    this.edits = { mute: [], set: [] };
    this.difference = false;
    this.effective = false;
    this.ownScale = true;
    this.tab = "look";
    this.turns = 0;
    this.slots = new Map();
    this.busy = 0;
    this.viewport = new Viewport(() => this.moved());
    this.networkPanel = new NetworkPanel(this);
    this.evidence = new Evidence(this);
    this.unitPanel = new UnitPanel(this);
    this.walkPanel = new WalkPanel(this);
    this.overlay = new Overlay(this);
    this.brush = new Brush(this);
    this.follows = paced(40, () => this.refreshViews());
    this.remembers = paced(200, () => this.remember());
    this.wanders = paced(700, () => this.wandered());
  }

  async start() {
    const asked = this.recall();
    this.setTheme(asked.theme || stored("theme") || "");
    const first = document.documentElement.dataset.language || navigator.language || "";
    speak(...[asked.language, this.languageInAddress(), stored("language"), first].filter(Boolean));
    this.root.classList.add("eyeshot-studio");
    this.frame();
    document.addEventListener("keydown", (event) => this.key(event));
    if (this.options.address) {
      window.addEventListener("hashchange", () => { if (!this.writing) this.follow_address(); });
    }
    await this.follow_address();
  }

  /** Show what the address names. */
  async follow_address() {
    const asked = this.recall();
    const turns = this.turns; // a person may choose a tab while the answer is on its way
    this.edits = asked.edits || { mute: [], set: [] };
    this.difference = asked.difference;
    this.beside.side = asked.beside;
    this.evidence.on = asked.pixels !== null;
    this.evidence.against = asked.pixels ?? "next";
    [this.overlay.kind, this.overlay.opacity] = asked.overlay || [this.overlay.kind, this.overlay.opacity];
    if (this.evidence.on) this.overlay.kind = ""; // one at a time
    await this.load({ picture: asked.picture ?? this.picture, chosen: asked });
    if (!this.state) await this.load({ picture: "", chosen: asked }); // the picture is gone
    if (!this.state) {
      this.edits = { mute: [], set: [] };
      await this.load({ picture: "" });
    }
    if (!this.state) return;
    if (asked.view) this.viewport.set(...asked.view);
    if (this.turns === turns) this.setTab(asked.tab, asked.walk);
  }

  // -- asking ----------------------------------------------------------------------------------

  /** Ask, and tell the person of what goes wrong; a later question of the same slot ends this one. */
  async ask(name, values, { slot = null, body = null, quiet = false, show: tell = null } = {}) {
    const control = new AbortController();
    if (slot) {
      this.slots.get(slot)?.abort();
      this.slots.set(slot, control);
    }
    const about = name === "walk" ? {} : { picture: this.picture, edits: this.editsText() };
    if (spoken() !== "en") about.language = spoken();
    about.of = this.beside.of(name);
    if (["strip", "dead", "kernel"].includes(name) && this.state && this.state.picture.wide) about.at = this.at().join(",");
    this.setBusy(1);
    try {
      const answer = await this.source.ask(name, { ...about, ...values }, { body, signal: control.signal });
      return control.signal.aborted ? null : answer;
    } catch (error) {
      if (error.name === "AbortError" || control.signal.aborted) return null;
      if (tell) tell(error);
      else if (!quiet) this.complain(error);
      return null;
    } finally {
      if (this.slots.get(slot) === control) this.slots.delete(slot);
      this.setBusy(-1);
    }
  }

  /** Of a wide picture the place around which strips are made. */
  at() {
    return [this.viewport.row, this.viewport.column].map((one) => Math.round(one / 128) * 128);
  }

  editsText() {
    return this.edits.mute.length || this.edits.set.length ? JSON.stringify(this.edits) : "";
  }

  setBusy(change) {
    this.busy += change;
    clearTimeout(this.busyTimer);
    this.busyTimer = setTimeout(() => { if (this.busyMark) this.busyMark.hidden = this.busy === 0; }, this.busy ? 250 : 0);
  }

  cancel() {
    for (const control of this.slots.values()) control.abort();
  }

  complain(error) {
    const place = this.notices;
    refill(place, h("strong", {}, say("error")), h("span", {}, error.message),
      error.cure ? h("span", { class: "faint" }, error.cure) : null,
      h("button", { class: "plain", "aria-label": say("close"), onclick: () => { place.hidden = true; } }, "×"));
    this.showNotice(12000);
  }

  /** Say something that is no error. */
  note(text) {
    refill(this.notices, h("span", {}, text));
    this.showNotice(5000, true);
  }

  showNotice(time, plain = false) {
    this.notices.classList.toggle("plain-note", plain);
    this.notices.hidden = false;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => { this.notices.hidden = true; }, time);
  }

  // -- choosing --------------------------------------------------------------------------------

  /** Load what is known of a picture, and keep what was chosen where that still makes sense. */
  async load({ picture, chosen = null }) {
    if (picture !== undefined) this.picture = picture;
    const answer = await this.ask("state", {}, { slot: "state" });
    if (!answer) return;
    const known = this.state !== null && this.state.layers.length === answer.data.layers.length;
    this.state = answer.data;
    if (!this.state.beside) this.beside.side = "";
    this.picture = picture === "" ? "" : this.state.picture.id;
    this.viewport.setSize(this.state.picture.size, this.state.picture.wide);
    const wanted = chosen && chosen.layer ? chosen : this.chosen;
    const layer = this.layerNamed(wanted.layer) || this.usualLayer();
    this.chosen = { layer: layer.name, channel: Math.min(wanted.channel ?? 0, layer.planes[0] - 1) };
    if (known) this.networkPanel.refresh?.();
    this.networkPanel.render();
    this.renderHead();
    this.renderPlay();
    const unit = chosen && chosen.unit ? chosen.unit : this.unit && this.unit.layer === layer.name ? this.unit.unit : null;
    await Promise.all([this.refreshViews(true), this.refreshGallery(),
      unit && this.state.network.runs ? this.openUnit(layer.name, unit, "keep") : this.closeUnit()]);
    this.networkPanel.reveal();
    this.remembers();
  }

  /** Ask how the training stands, and show everything again when there are new weights. */
  async watch() {
    if (!this.root.isConnected) return;
    const answer = await this.ask("training", {}, { slot: "training", quiet: true });
    if (answer) {
      const { stamp } = answer.data;
      refill(this.learning, learningCurve(answer.data));
      if (this.stamp !== undefined && stamp !== this.stamp) {
        this.mapKey = null;
        await this.load({ picture: this.picture });
      }
      this.stamp = stamp;
    }
    setTimeout(() => this.watch(), 2000);
  }

  layerNamed(name) {
    return this.state.layers.find((one) => one.name === name);
  }

  usualLayer() {
    const { layers, findings } = this.state;
    const wrong = findings.find((one) => one.severity === "error");
    if (wrong && this.layerNamed(wrong.layer)) return this.layerNamed(wrong.layer);
    const first = layers.findIndex((one) => one.weighted && one.spatial);
    if (first < 0) return layers[layers.length - 1];
    const next = layers[first + 1];
    return next && next.minor && next.spatial ? next : layers[first];
  }

  /** Choose a layer, a channel, a unit. */
  async choose({ layer = this.chosen.layer, channel = null, unit = null, trail = "new" }) {
    const found = this.layerNamed(layer);
    if (!found) return;
    const other = layer !== this.chosen.layer;
    const wanted = channel ?? (unit && found.planes[0] > 1 ? unit[0] : other ? Math.min(this.chosen.channel, found.planes[0] - 1) : this.chosen.channel);
    this.chosen = { layer, channel: Math.max(0, Math.min(found.planes[0] - 1, wanted)) };
    const jobs = [this.refreshViews(true)];
    if (other) jobs.push(this.refreshGallery());
    else this.markGallery();
    if (unit && this.state.network.runs) jobs.push(this.openUnit(layer, unit, trail));
    else if (other || trail === "close") this.closeUnit();
    this.networkPanel.mark();
    this.networkPanel.reveal();
    await Promise.all(jobs);
    this.remembers();
  }

  follow(layer, unit) {
    return this.choose({ layer, unit, trail: "follow" });
  }

  backTo(index) {
    const step = this.trail[index];
    this.trail = this.trail.slice(0, index);
    return this.choose({ layer: step.layer, unit: step.unit, trail: "follow" });
  }

  async openUnit(layer, unit, trail) {
    const opening = { layer, unit };
    this.opening = opening;
    const asked = { layer, unit: unit.join(",") };
    const [answer, twin] = await Promise.all([
      this.ask("unit", asked, { slot: "unit", show: this.source.live ? null : () => this.complain({ message: say("notInFile") }) }),
      this.beside.has(layer) ? this.ask("unit", { ...asked, of: this.beside.of("unit") ? "" : "other" }, { slot: "twin", quiet: true }) : null]);
    if (this.opening !== opening) return; // another was chosen, or none
    this.opening = null;
    if (!answer) return;
    this.chained = this.chained && trail === "keep" && this.unit && this.unit.layer === layer && String(this.unit.unit) === String(unit);
    this.unit = answer.data;
    this.chain = null; // of other numbers
    this.twin = twin && twin.data;
    this.unitPanel.all = false;
    this.boxes = Object.fromEntries(Object.entries(answer.data.boxes).filter(([, box]) => box && box.length === 2));
    const last = this.trail[this.trail.length - 1];
    const same = last && last.layer === layer && String(last.unit) === String(unit);
    if (trail === "new" || (trail === "keep" && !same)) this.trail = [];
    if (!same || trail === "new") this.trail.push({ layer, unit });
    this.effectivePicture = null;
    await this.evidence.refresh();
    if (this.unit !== answer.data) return; // another was chosen while this one was answered
    this.unitPanel.render();
    if (trail !== "keep") this.unitPanel.root.scrollTop = 0;
    this.networkPanel.mark();
    this.drawPicture();
    if (this.effective) this.showEffective(true);
    if (this.vectorPlace) this.markVector();
    this.remembers();
    if (this.chained) await this.why();
  }

  closeUnit() {
    this.unit = this.opening = null;
    this.chain = null;
    this.chained = false;
    this.twin = null;
    this.boxes = null;
    this.trail = [];
    this.effectivePicture = null;
    this.evidence.clear();
    this.unitPanel.render();
    this.networkPanel.mark();
    this.drawPicture();
  }

  /** Choose a unit and follow its largest contributions. */
  async whyOf(layer, unit) {
    this.only("evidence");
    this.evidence.on = true;
    await this.choose({ layer, unit, trail: "new" });
    await this.why();
    this.unitPanel.root.scrollTop = 0; // what the pixels add stands above the chain
  }

  async why() {
    const { unit } = this;
    if (!unit) {
      this.note(say("chooseUnit"));
      return;
    }
    this.chained = true; // and after each change of the picture or the network again
    const answer = await this.ask("why", { layer: unit.layer, unit: unit.unit.join(",") }, { slot: "why" });
    if (!answer || this.unit !== unit) return;
    this.chain = answer.data;
    this.unitPanel.showWhy(true);
  }

  async edited() {
    await this.load({ picture: this.picture, chosen: { ...this.chosen, unit: this.unit ? this.unit.unit : null } });
  }

  showDifference(on) {
    this.difference = on;
    this.refreshViews(true);
    this.remembers();
  }

  async showEffective(on) {
    if (on) this.only("effective");
    this.effective = on;
    this.effectivePicture = null;
    if (on && this.unit) {
      const { layer, unit } = this.unit;
      const answer = await this.ask("effective", { layer, unit: unit.join(",") }, { slot: "effective" });
      if (answer && answer.data.shape[1] && this.unit && this.unit.layer === layer) {
        const plain = { axes: null, box: (top, bottom, left, right) => [top, bottom, left, right] };
        const picture = numbersPicture(numbersOf(answer), answer.data.shape, answer.data.box, plain, 1, answer.data.max, false);
        this.effectivePicture = { ...picture, alpha: 0.85, largest: answer.data.max };
      }
    }
    this.unitPanel.markEffective();
    this.drawPicture();
    this.remembers();
  }

  // -- the two panes ---------------------------------------------------------------------------

  moved() {
    if (!this.state) return;
    if (this.evidence.zoomed()) this.drawPicture();
    this.picturePane.draw();
    this.mapPane.draw();
    this.follows();
    this.wanders();
    this.remembers();
  }

  /** New strips for another place of a wide picture. */
  wandered() {
    const at = String(this.at());
    if (!this.state || !this.state.picture.wide || at === this.stripsAt) return;
    this.stripsAt = at;
    this.networkPanel.again();
    this.refreshGallery();
  }

  refreshViews(again = false) {
    if (!this.state) return Promise.resolve();
    return Promise.all([this.refreshPicture(again), this.refreshMap(again), this.overlay.refresh()]);
  }

  async refreshPicture() {
    const { size, id } = this.state.picture;
    const whole = size[0] * size[1] <= WHOLE * 2;
    const box = whole ? [0, size[0], 0, size[1]] : padded(this.viewport.box(), size);
    const step = whole ? 1 : Math.max(1, Math.floor(1 / this.viewport.scale));
    const key = [id, box, step].join();
    if (key === this.pictureKey || (key === this.pictureAsked && this.slots.has("picture"))) return;
    this.pictureAsked = key;
    const answer = await this.ask("picture", whole ? {} : { box: box.join(","), step }, { slot: "picture" });
    if (!answer) return;
    this.pictureKey = key;
    const [high, wide] = answer.data.shape;
    const rgb = new Uint8Array(answer.raw);
    const image = new ImageData(Math.max(1, wide), Math.max(1, high));
    for (let i = 0; i < wide * high; i++) image.data.set([rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2], 255], 4 * i);
    this.pictureShown = { canvas: canvasOf(image), box: spanned(answer.data), rgb, shape: answer.data.shape, from: answer.data };
    this.drawPicture();
  }

  drawPicture() {
    const evidence = this.evidence.shown();
    const picture = this.pictureShown && evidence ? { ...this.pictureShown, canvas: this.grayPicture() } : this.pictureShown;
    this.picturePane.show([picture, this.overlay.shown(), this.effectivePicture, evidence?.dim, evidence].filter(Boolean));
    this.drawMarks();
  }

  /** The picture without its colors, made once. */
  grayPicture() {
    const { rgb, shape: [high, wide] } = this.pictureShown;
    if (!this.pictureShown.gray) {
      const image = new ImageData(Math.max(1, wide), Math.max(1, high));
      for (let i = 0; i < wide * high; i++) {
        const gray = Math.round(0.299 * rgb[3 * i] + 0.587 * rgb[3 * i + 1] + 0.114 * rgb[3 * i + 2]);
        image.data.set([gray, gray, gray, 255], 4 * i);
      }
      this.pictureShown.gray = canvasOf(image);
    }
    return this.pictureShown.gray;
  }

  /** Lay one thing over the picture at a time: "evidence", "effective" or "overlay". */
  only(kind) {
    if (kind !== "evidence" && this.evidence.on) {
      this.evidence.on = false;
      this.evidence.clear();
      this.evidence.again();
    }
    if (kind !== "effective" && this.effective) {
      this.effective = false;
      this.effectivePicture = null;
      this.unitPanel.markEffective();
    }
    if (kind !== "overlay" && this.overlay.kind) this.overlay.off();
  }

  /** Which units to ask for: all, where they are few; else those in view, every so-many-th. */
  viewed(lattice, [high, wide]) {
    if (high * wide <= WHOLE) return {};
    const box = lattice.units(padded(this.viewport.box(), this.state.picture.size));
    return { box: box.join(","), step: Math.max(1, Math.floor(1 / (lattice.axes[0].stride * this.viewport.scale))) };
  }

  async refreshMap(again = false) {
    const layer = this.layerNamed(this.chosen.layer);
    this.lattice = new Lattice(layer, this.state.picture.size);
    this.hoverAgain();
    if (!this.state.network.runs) {
      this.mapPane.show([]);
      this.renderMapHead(null);
      const wrong = this.state.findings.find((one) => one.severity === "error");
      refill(this.mapNote, h("p", {}, h("strong", {}, say("noRun"))), h("p", {}, wrong.cause), h("p", { class: "faint" }, wrong.cure));
      this.mapNote.hidden = false;
      return;
    }
    const [, high, wide] = layer.planes;
    const vector = (!layer.spatial || high * wide === 1) && !this.beside.lacks(layer.name);
    this.mapFrame.classList.toggle("is-vector", vector);
    if (this.beside.lacks(layer.name)) {
      this.mapKey = null;
      this.refuseMap({ message: this.beside.reason(layer.name) }, "");
      return;
    }
    if (vector) {
      if (again) await this.showVector(layer);
      return;
    }
    const seen = this.viewed(this.lattice, [high, wide]);
    const asked = { layer: layer.name, channel: this.chosen.channel, ...seen };
    if (this.difference && this.editsText() && !this.beside.side) asked.difference = 1;
    const key = JSON.stringify([this.state.picture.id, this.editsText(), this.beside.side, asked]);
    if (key === this.mapKey || (key === this.mapAsked && this.slots.has("maps"))) return;
    this.mapAsked = key;
    if (this.anyway === key) asked.anyway = 1;
    let refused = null;
    const answer = await this.ask("maps", asked, { slot: "maps", show: (error) => { refused = error; } });
    if (refused) this.refuseMap(refused, key);
    if (!answer) return;
    this.mapNote.hidden = true;
    this.mapKey = key;
    const signed = (answer.data.min ?? 0) < 0;
    const most = Math.max(Math.abs(answer.data.min ?? 0), Math.abs(answer.data.max ?? 0)) || 1;
    this.map = { ...answer.data, of: this.mapOf(), numbers: numbersOf(answer), signed, most };
    this.mapPane.show([numbersPicture(this.map.numbers, answer.data.shape, answer.data.box, this.lattice, answer.data.step, most, signed)]);
    this.renderMapHead(this.map);
    this.drawMarks();
    this.hoverAgain();
  }

  /** What the shown map is of. */
  mapOf() {
    return [this.state.picture.id, this.editsText(), this.beside.side, this.chosen.layer, this.chosen.channel].join(" ");
  }

  /** Why there is no map here, and what can be done. */
  refuseMap(error, key) {
    this.map = null;
    this.mapPane.show([]);
    this.renderMapHead(null);
    refill(this.mapNote, h("p", {}, error.message), error.cure ? h("p", { class: "faint" }, error.cure) : null,
      error.anyway ? h("button", { class: "small", onclick: () => {
        this.anyway = key;
        this.refreshMap(true);
      } }, say("computeAnyway")) : null);
    this.mapNote.hidden = false;
  }

  drawMarks() {
    if (!this.state) return;
    const marks = [];
    const mapMarks = [];
    const { size } = this.state.picture;
    const { unit } = this;
    if (unit && unit.field.box && unit.field.box.length === 2) {
      const [[top, bottom], [left, right]] = unit.field.box;
      marks.push({ box: [top, bottom, left, right], kind: "field", picture: [0, size[0], 0, size[1]] });
    }
    if (this.reached) {
      marks.push({ box: [this.reached.pixel[0], this.reached.pixel[0] + 1, this.reached.pixel[1], this.reached.pixel[1] + 1], kind: "reach" });
      const box = this.reached.boxes[this.chosen.layer];
      if (box && this.lattice.spatial) {
        mapMarks.push({ box: this.lattice.box(...box[0], ...box[1]), kind: "reach" });
      }
    }
    if (unit && this.lattice && this.lattice.spatial) {
      if (unit.layer === this.chosen.layer && unit.unit.length === 3 && unit.unit[0] === this.chosen.channel) {
        const [, row, column] = unit.unit;
        mapMarks.push({ box: this.lattice.box(row, row + 1, column, column + 1), kind: "unit" });
      } else if (this.boxes && this.boxes[this.chosen.layer]) {
        const [[top, bottom], [left, right]] = this.boxes[this.chosen.layer];
        mapMarks.push({ box: this.lattice.box(top, bottom, left, right), kind: "unit" });
      }
    }
    if (!this.source.live && this.lattice && this.lattice.spatial) {
      for (const [channel, row, column] of this.source.units.get(this.chosen.layer) || []) {
        if (channel === this.chosen.channel) mapMarks.push({ box: this.lattice.box(row + 0.35, row + 0.65, column + 0.35, column + 0.65), kind: "dot" });
      }
    }
    if (this.hovered && this.lattice && this.lattice.spatial) {
      const [row, column] = this.hovered;
      mapMarks.push({ box: this.lattice.box(row, row + 1, column, column + 1), kind: "hover" });
    }
    this.picturePane.mark(marks);
    this.mapPane.mark(mapMarks);
  }

  hover(row, column) {
    if (!this.state) return;
    this.pointer = [row, column];
    const layer = this.layerNamed(this.chosen.layer);
    const found = this.lattice && this.lattice.spatial ? this.lattice.unit(row, column) : null;
    this.hovered = found;
    const [y, x] = [Math.floor(row), Math.floor(column)];
    const told = [];
    const shown = this.pictureShown;
    if (shown && y >= 0 && x >= 0 && y < this.state.picture.size[0] && x < this.state.picture.size[1]) {
      told.push(say("chosenPixel", y, x));
      const { box, step } = shown.from;
      const at = 3 * (Math.floor((y - box[0]) / step) * shown.shape[1] + Math.floor((x - box[2]) / step));
      if (at >= 0 && at < shown.rgb.length) {
        const colors = [...shown.rgb.slice(at, at + 3)];
        told.push(`${say("picture")} ${new Set(colors).size === 1 ? colors[0] : colors.join(" ")}`);
      }
    }
    const over = this.overlay.textAt(row, column);
    if (over) told.push(over);
    const adds = this.evidence.textAt(row, column);
    if (adds) told.push(adds);
    if (found && this.map && this.map.shape && this.map.of === this.mapOf()) {
      const { box, step, shape, numbers } = this.map;
      const [i, j] = [Math.floor((found[0] - box[0]) / step), Math.floor((found[1] - box[2]) / step)];
      if (i >= 0 && j >= 0 && i < shape[1] && j < shape[2]) {
        told.push(`${layer.name} [${this.chosen.channel}, ${found.join(", ")}] = ${show(numbers[i * shape[2] + j], 5)}`);
      }
    }
    this.status.textContent = told.join("   ·   ");
    this.drawMarks();
  }

  /** The pointer stands where it stood, over another map now. */
  hoverAgain() {
    if (this.pointer) this.hover(...this.pointer);
  }

  leave() {
    this.hovered = this.pointer = null;
    this.status.textContent = "";
    this.drawMarks();
  }

  click(row, column) {
    if (!this.lattice || !this.state.network.runs) return;
    if (!this.lattice.spatial) return;
    this.reached = null;
    const unit = this.lattice.unit(row, column) || this.lattice.nearest(row, column);
    this.choose({ unit: this.inFile([this.chosen.channel, ...unit]) });
  }

  /** Of a page without a server the nearest unit that it holds; any unit otherwise. */
  inFile(unit, layer = this.chosen.layer, only = false) {
    if (this.source.live) return unit;
    const all = this.source.units.get(layer) || [];
    const here = all.filter((one) => one[0] === unit[0] || unit.length === 1);
    const held = here.length ? here : all; // of another channel, if this one has none
    const far = (one) => Math.hypot(...one.map((at, axis) => at - unit[axis]));
    return held.sort((a, b) => far(a) - far(b))[0] || (only ? null : unit);
  }

  /** The pixel in the middle of the chosen unit, or of the view. */
  pixelThere() {
    const { unit, lattice, viewport } = this;
    if (!unit || unit.layer !== this.chosen.layer || unit.unit.length !== 3) return [viewport.row, viewport.column];
    const [top, bottom, left, right] = lattice.box(unit.unit[1], unit.unit[1] + 1, unit.unit[2], unit.unit[2] + 1);
    return [(top + bottom) / 2, (left + right) / 2];
  }

  async reach(row, column) {
    const { size } = this.state.picture;
    const pixel = [Math.floor(row), Math.floor(column)];
    if (!this.source.live) return;
    if (pixel.some((at, axis) => at < 0 || at >= size[axis])) return;
    const answer = await this.ask("reach", { pixel: pixel.join(",") }, { slot: "reach" });
    if (!answer) return;
    this.reached = answer.data;
    this.unit = this.twin = this.chain = this.opening = null;
    this.boxes = Object.fromEntries(Object.entries(answer.data.boxes).filter(([, [a, b]]) => a[1] > a[0] && b[1] > b[0]));
    this.networkPanel.mark();
    this.drawMarks();
    refill(this.unitPanel.root, h("header", {}, h("div", {}, h("h2", {}, say("reachTitle")),
      h("p", { class: "faint" }, `${say("pixel")} [${pixel.join(", ")}]`))),
    h("table", { class: "reach" }, h("tbody", {}, this.state.layers.filter((one) => this.boxes[one.name] && one.spatial && !one.input).map((one) => {
      const sides = this.boxes[one.name];
      return h("tr", {}, h("th", { scope: "row" }, h("button", { class: "link", onclick: () => this.choose({ layer: one.name, trail: "keep" }).then(() => this.drawMarks()) }, one.name)),
        h("td", { class: "mono right" }, by(sides.map(([lo, hi]) => hi - lo))),
        h("td", { class: "faint" }, `${say("rows", `${sides[0][0]}–${sides[0][1] - 1}`)}${say("comma")}${say("columns", `${sides[1][0]}–${sides[1][1] - 1}`)}`));
    }))));
  }

  // -- the frame -------------------------------------------------------------------------------

  frame() {
    const acts = { hover: (r, c) => this.hover(r, c), leave: () => this.leave() };
    this.picturePane = new Pane(this.viewport, { ...acts, paint: (to, from) => this.brush.stroke(to, from),
      click: (r, c, event) => (event.shiftKey ? this.reach(r, c) : this.click(r, c)) }, say("picture"));
    this.mapPane = new Pane(this.viewport, { ...acts, click: (r, c) => this.click(r, c) }, say("allMaps"));
    this.top = h("header", { class: "top" });
    this.notices = h("div", { class: "notice", role: "alert", hidden: true });
    this.pictureHead = h("figcaption", {});
    this.mapHead = h("figcaption", {});
    this.vectorPlace = h("div", { class: "vector" });
    this.mapNote = h("div", { class: "map-note", hidden: true });
    this.mapFrame = h("figure", { class: "map" }, this.mapHead, this.mapPane.canvas, this.vectorPlace, this.mapNote);
    this.status = h("p", { class: "status mono", "aria-live": "off" });
    this.chips = h("div", { class: "chips" });
    this.gallery = h("section", { class: "gallery", "aria-label": say("allMaps") });
    this.play = h("section", { class: "play" });
    this.board = null;
    this.learning = h("div", {});
    this.zooms = h("div", { class: "zooms" });
    this.renderZooms();
    this.looking = h("div", { class: "looking" },
      this.networkPanel.root,
      h("main", { class: "middle" }, this.chips,
        h("div", { class: "panes" }, h("figure", {}, this.pictureHead, this.picturePane.canvas), this.mapFrame),
        h("div", { class: "under" }, this.overlay.root, this.status, this.brush.root, this.zooms),
        h("div", { class: "lower" }, this.gallery, this.play)),
      this.unitPanel.root);
    refill(this.root, this.top, this.notices, this.looking, this.walkPanel.root);
    this.unitPanel.render();
  }

  renderHead() {
    const { state } = this;
    const pictures = state.pictures;
    const notes = state.picture.notes.map(phrase).join("; ");
    const drawn = !pictures.some((one) => one.id === state.picture.id);
    const tab = (name, text) => h("button", { role: "tab", "aria-selected": String(this.tab === name), onclick: () => this.setTab(name) }, text);
    this.busyMark = h("span", { class: "busy", hidden: true }, h("span", { class: "spinner", "aria-hidden": "true" }), say("computing"),
      h("button", { class: "small", onclick: () => this.cancel() }, say("cancel")));
    refill(this.top,
      h("div", { class: "brand" }, h("span", { class: "mark", "aria-hidden": "true" }), "eyeshot", h("span", { class: "faint" }, state.network.name)),
      h("div", { class: "tabs", role: "tablist" }, tab("look", say("look")), tab("walk", say("playground"))),
      this.beside.chooser(),
      this.source.live && (pictures.length > 1 || drawn) ? h("label", {}, h("select", { "aria-label": say("picture"), onchange: (event) => this.load({ picture: event.target.value }) },
        drawn ? h("option", { value: state.picture.id, selected: true }, phrase(state.picture.name)) : null,
        pictures.map((one) => h("option", { value: one.id, selected: one.id === state.picture.id }, phrase(one.name))))) : null,
      this.busyMark,
      h("span", { class: "space" }),
      this.saveMenu(),
      h("select", { "aria-label": "Language", onchange: (event) => this.setLanguage(event.target.value) },
        Object.entries(LANGUAGES).map(([key, name]) => h("option", { value: key, selected: key === spoken() }, name))),
      h("button", { class: "small", title: say("theme") + " (l)", onclick: () => this.toggleTheme() }, this.isDark() ? say("light") : say("darkTheme")),
      h("button", { class: "small", title: say("help") + " (?)", "aria-label": say("help"), onclick: () => this.help() }, "?"));
    refill(this.pictureHead, h("strong", {}, phrase(state.picture.name)),
      h("span", { class: "faint" }, `${by(state.picture.size)}`),
      notes ? h("span", { class: "note faint", title: notes }, notes) : null);
  }

  renderMapHead(map) {
    const layer = this.layerNamed(this.chosen.layer);
    refill(this.mapHead, h("strong", {}, layer.name), this.beside.side ? h("span", { class: "note side", title: this.beside.name() }, this.beside.side === "other" ? this.beside.name() : say("differenceOf")) : null,
      h("span", { class: "faint note" }, layer.spatial ? `${say("channel")} ${this.chosen.channel}` : say("numbersOf", layer.planes[2])),
      h("span", { class: "space" }),
      map && map.max !== null ? h("span", { class: "scale mono" }, show(map.signed ? -map.most : 0, 3), asElement(scaleBar(map.signed)), show(map.max || map.min ? map.most : 0, 3)) : null,
      !this.state.network.runs ? h("span", { class: "faint" }, say("noMaps")) : null);
  }

  renderPlay() {
    this.brush.render();
    const bars = answerBars(this);
    if (this.state.network.digits && this.source.live && !this.board) this.board = new DrawingBoard(this);
    refill(this.chips, bars ? null : randomNotes(this), editChips(this));
    if (this.board && this.play.contains(this.board.canvas)) {
      refill(this.barsPlace, bars);
      return;
    }
    this.barsPlace = h("div", { class: "answering" }, bars);
    refill(this.play, this.board ? this.board.element() : null, h("div", { class: "column" }, this.learning, this.barsPlace));
    const { training } = this.state.network;
    this.play.hidden = !bars && !this.board && !training;
    if (training && this.source.live && !this.watching) {
      this.watching = true;
      this.watch();
    }
  }

  async refreshGallery() {
    const layer = this.layerNamed(this.chosen.layer);
    const [channels, high, wide] = layer.planes;
    const none = this.beside.lacks(layer.name) || (this.beside.side === "difference" && this.state.picture.wide);
    this.gallery.hidden = !layer.spatial || !this.state.network.runs || none;
    if (this.gallery.hidden) return;
    const answer = await this.ask("strip", { layer: layer.name, most: TILES, own: this.ownScale ? 1 : "" }, { slot: "gallery", quiet: !this.source.live });
    if (!answer || layer.name !== this.chosen.layer) return;
    const { data } = answer;
    const tiles = tilesOf(answer);
    const dead = new Set(data.dead);
    this.tiles = tiles.map((tile, channel) => h("button", {
      class: "tile" + (dead.has(channel) ? " dead" : ""), "aria-label": `${say("channel")} ${channel}`,
      title: `${say("channel")} ${channel}: ${show(data.min[channel])} … ${show(data.max[channel])}`,
      onclick: () => this.choose({ channel, unit: this.unit && this.unit.layer === layer.name && this.unit.unit.length === 3 ? [channel, ...this.unit.unit.slice(1)] : null }),
    }, asElement(tile), h("span", {}, channel)));
    refill(this.gallery, h("header", {}, h("h3", {}, layer.name),
      h("span", { class: "faint" }, say("mapsOf", channels, by([high, wide])) + (data.dead.length ? ` · ${deadText(data.dead)}` : "") + (this.state.picture.wide ? ` · ${say("aroundView")}` : "")),
      h("span", { class: "space" }),
      this.changeButtons = h("span", { class: "changes" }),
      h("label", { class: "faint" }, say("range"), " ", h("select", { disabled: !this.source.live, onchange: (event) => { this.ownScale = event.target.value === "own"; this.refreshGallery(); } },
        h("option", { value: "own", selected: this.ownScale }, say("own")), h("option", { value: "shared", selected: !this.ownScale }, say("shared"))))),
    this.editor = h("div", { class: "editor" }),
    h("div", { class: "tiles" }, this.tiles));
    this.markGallery();
  }

  markGallery() {
    const layer = this.layerNamed(this.chosen.layer);
    if (this.changeButtons && this.source.live && !layer.input && this.beside.side !== "other") {
      const muted = this.isMuted(layer.name, this.chosen.channel);
      refill(this.changeButtons,
        h("button", { class: "small", "aria-pressed": String(muted), title: "m", onclick: () => this.toggleMute() },
          muted ? say("unmute") : say("mute")),
        layer.weighted ? h("button", { class: "small", onclick: () => this.editKernel() }, say("edit")) : null);
    }
    (this.tiles || []).forEach((tile, channel) => {
      tile.setAttribute("aria-pressed", String(channel === this.chosen.channel));
      tile.classList.toggle("muted", this.isMuted(this.chosen.layer, channel));
    });
  }

  /** A vector: each number a cell. */
  async showVector(layer) {
    this.renderMapHead(null);
    const answer = await this.ask("maps", { layer: layer.name, ...(this.difference && this.editsText() && !this.beside.side ? { difference: 1 } : {}) }, { slot: "maps" });
    if (!answer) return;
    this.mapKey = null;
    const numbers = numbersOf(answer);
    const signed = (answer.data.min ?? 0) < 0;
    const most = Math.max(Math.abs(answer.data.min ?? 0), Math.abs(answer.data.max ?? 0)) || 1;
    this.map = { ...answer.data, numbers, signed, most };
    const names = this.state.network.outputs.includes(layer.name) ? this.state.network.classes : [];
    const place = (i) => (layer.shape.length === 1 ? [i] : unravel(i, layer.shape));
    const few = numbers.length <= 64;
    refill(this.vectorPlace, h("div", { class: "numbers" + (few ? " few" : "") }, Array.from(numbers.slice(0, 2048), (value, i) =>
      h("button", {
        class: "number" + (isDark(value, most, signed) ? " light" : ""), title: `[${place(i).join(", ")}] ${value}`,
        style: { background: colorOf(value, most, signed) },
        onclick: () => this.choose({ unit: this.inFile(place(i)) }),
      }, few ? [h("small", {}, names[i] ?? i), h("span", { class: "mono" }, show(value, 3))] : null))));
    this.renderMapHead(this.map);
    this.markVector();
  }

  markVector() {
    const layer = this.layerNamed(this.chosen.layer);
    const here = this.unit && this.unit.layer === layer.name && this.unit.unit.length === 1 ? this.unit.unit[0] : -1;
    this.vectorPlace.querySelectorAll(".number").forEach((one, i) => one.setAttribute("aria-pressed", String(i === here)));
  }

  // -- changes ---------------------------------------------------------------------------------

  isMuted(layer, channel) {
    return this.edits.mute.some(([l, c]) => l === layer && c === channel);
  }

  toggleMute() {
    const { layer, channel } = this.chosen;
    const found = this.layerNamed(layer);
    const at = found.spatial ? channel : this.unit && this.unit.layer === layer ? this.unit.unit[0] : -1;
    if (at < 0 || found.input || this.beside.side === "other") return;
    if (this.isMuted(layer, at)) this.edits.mute = this.edits.mute.filter(([l, c]) => !(l === layer && c === at));
    else this.edits.mute.push([layer, at]);
    this.edited();
  }

  editKernel() {
    const { layer, channel } = this.chosen;
    const place = this.editor;
    if (!place) return;
    if (place.childElementCount) refill(place);
    else kernelEditor(this, layer, channel, place);
  }

  // -- saving ----------------------------------------------------------------------------------

  saveMenu() {
    const item = (act, text) => h("button", { class: "plain", onclick: () => {
      act(this);
      this.top.querySelector("details[open]")?.removeAttribute("open");
    } }, say(text));
    return h("details", { class: "menu" }, h("summary", { class: "small" }, say("save")),
      h("div", {},
        item(savePng, "savePng"), item(saveView, "saveSvg"), item(saveNetwork, "saveNetwork"),
        item(saveSumDrawing, "saveSumSvg"), item(saveMap, "saveCsv"), item(saveSum, "saveSum"),
        this.options.address ? item(() => navigator.clipboard?.writeText(location.href), "copyLink") : null));
  }

  // -- manners ---------------------------------------------------------------------------------

  setTab(name, walk = null) {
    this.turns += 1;
    this.tab = name === "walk" ? "walk" : "look";
    this.looking.hidden = this.tab !== "look";
    this.walkPanel.root.hidden = this.tab !== "walk";
    if (this.state) this.renderHead();
    if (this.tab === "walk") this.walkPanel.open(walk);
    else requestAnimationFrame(() => { this.picturePane.resize(); this.mapPane.resize(); this.networkPanel.drawArcs(); });
    this.remembers();
  }

  /** "zh" of ?lang=zh. */
  languageInAddress() {
    const asked = new URLSearchParams(this.options.address ? location.search : "");
    return asked.get("lang") || asked.get("language");
  }

  setLanguage(name) {
    speak(name);
    if (this.languageInAddress()) { // the address names the language that is spoken now
      const asked = new URLSearchParams(location.search);
      asked.delete("language");
      asked.set("lang", name);
      history.replaceState(null, "", `?${asked}${location.hash}`);
    }
    store("language", name);
    document.documentElement.lang = name;
    this.renderAll();
    if (this.state) this.load({ picture: this.picture }); // findings and notes in that language
  }

  renderZooms() {
    refill(this.zooms,
      h("button", { class: "small", title: say("zoomOut") + " (−)", "aria-label": say("zoomOut"), onclick: () => this.viewport.zoom(1 / 1.5) }, "−"),
      h("button", { class: "small", title: say("fit") + " (0)", onclick: () => this.viewport.fit() }, say("fit")),
      h("button", { class: "small", title: say("zoomIn") + " (+)", "aria-label": say("zoomIn"), onclick: () => this.viewport.zoom(1.5) }, "+"));
  }

  renderAll() {
    this.renderZooms();
    this.renderHead();
    this.networkPanel.render();
    this.networkPanel.mark();
    this.unitPanel.render();
    refill(this.play);
    this.renderPlay();
    this.refreshGallery();
    this.overlay.render();
    this.renderMapHead(this.map || null);
    if (this.tab === "walk") this.walkPanel.render();
  }

  isDark() {
    const chosen = this.root.dataset.theme;
    return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
  }

  setTheme(name) {
    if (name) this.root.dataset.theme = name;
    if (this.options.address) document.documentElement.dataset.theme = this.isDark() ? "dark" : "light";
  }

  toggleTheme() {
    this.setTheme(this.isDark() ? "light" : "dark");
    store("theme", this.root.dataset.theme);
    this.renderHead();
    this.picturePane.draw();
    this.mapPane.draw();
    this.networkPanel.mark();
    this.remembers();
  }

  help() {
    const dialog = h("dialog", { class: "help" }, h("h2", {}, say("help")),
      h("dl", {}, say("keysList").split("|").map((line) => {
        const [keys, text] = split(line);
        return [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, text)];
      })),
      h("form", { method: "dialog" }, h("button", {}, say("close"))));
    this.root.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.showModal();
  }

  key(event) {
    if (!this.root.isConnected || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (!this.options.address && !this.root.contains(event.target)) return;
    if (document.querySelector("dialog[open]") || !this.state) return;
    const act = this.actOf(event.key);
    if (act) {
      event.preventDefault();
      act();
    }
  }

  actOf(key) {
    const plain = {
      "?": () => this.help(), l: () => this.toggleTheme(), k: () => this.setTab(this.tab === "walk" ? "look" : "walk"),
    };
    if (plain[key] || this.tab === "walk") return plain[key];
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[key];
    if (step) return () => this.stepUnit(...step);
    return {
      "[": () => this.stepLayer(-1), "]": () => this.stepLayer(1), ",": () => this.stepChannel(-1), ".": () => this.stepChannel(1),
      "+": () => this.viewport.zoom(1.5), "=": () => this.viewport.zoom(1.5), "-": () => this.viewport.zoom(1 / 1.5), 0: () => this.viewport.fit(),
      r: () => this.reach(...this.pixelThere()), w: () => this.why(), m: () => this.toggleMute(), p: () => { if (this.unit) this.evidence.toggle(!this.evidence.on); else this.note(say("chooseUnit")); }, e: () => this.showEffective(!this.effective),
      b: () => this.beside.next(),
      d: () => { this.showDifference(!this.difference); this.renderPlay(); },
      Backspace: () => { if (this.trail.length > 1) this.backTo(this.trail.length - 2); },
      Escape: () => { this.reached = null; this.closeUnit(); },
    }[key];
  }

  stepUnit(down, right) {
    const layer = this.layerNamed(this.chosen.layer);
    const [, high, wide] = layer.planes;
    const unit = this.unit && this.unit.layer === layer.name ? this.unit.unit : null;
    const hold = (at, n) => Math.max(0, Math.min(n - 1, at));
    if (!layer.spatial) {
      this.choose({ unit: [hold((unit ? unit[0] : 0) + down + right, wide)], trail: "new" });
      return;
    }
    const [row, column] = unit ? unit.slice(1) : [high >> 1, wide >> 1];
    this.choose({ unit: [this.chosen.channel, hold(row + down, high), hold(column + right, wide)], trail: "new" });
  }

  stepLayer(by_) {
    const { layers } = this.state;
    const at = layers.findIndex((one) => one.name === this.chosen.layer);
    const next = layers[at + by_];
    if (!next) return;
    const now = this.opening || this.unit; // keys are faster than answers
    const had = now && now.layer === this.chosen.layer;
    const unit = had ? this.unitAtSamePlace(now, next) : null;
    if (had && !unit) this.note(say("noUnitThere", next.name));
    this.choose({ layer: next.name, unit });
  }

  /** The unit of another layer that lies where a unit lies on the picture; null if none does. */
  unitAtSamePlace({ layer: name, unit }, layer) {
    const from = this.layerNamed(name);
    let found = null;
    if (from.spatial && layer.spatial && unit.length === 3) {
      const box = new Lattice(from, this.state.picture.size).box(unit[1], unit[1] + 1, unit[2], unit[2] + 1);
      const place = new Lattice(layer, this.state.picture.size).nearest((box[0] + box[1]) / 2, (box[2] + box[3]) / 2);
      found = [Math.min(unit[0], layer.planes[0] - 1), ...place];
    } else if (!from.spatial && String(from.shape) === String(layer.shape)) found = unit;
    return found && this.inFile(found, layer.name, true);
  }

  stepChannel(by_) {
    const layer = this.layerNamed(this.chosen.layer);
    const channel = Math.max(0, Math.min(layer.planes[0] - 1, this.chosen.channel + by_));
    const unit = this.unit && this.unit.layer === layer.name && this.unit.unit.length === 3 ? [channel, ...this.unit.unit.slice(1)] : null;
    this.choose({ channel, unit });
  }

  // -- the address -----------------------------------------------------------------------------

  /** What the address after # says. */
  recall() {
    const asked = new URLSearchParams(this.options.address ? location.hash.slice(1) : this.options.asked || "");
    const numbers = (name) => {
      const found = (asked.get(name) || "").split(",").map(Number);
      return asked.get(name) && found.every(Number.isFinite) ? found : null;
    };
    let edits = null;
    try {
      edits = JSON.parse(asked.get("edits") || "null");
    } catch {
      edits = null;
    }
    const walk = asked.get("walk") ? Object.fromEntries(new URLSearchParams(asked.get("walk"))) : null;
    return {
      picture: asked.get("picture") ?? undefined, layer: asked.get("layer") || "", unit: numbers("unit"),
      channel: numbers("channel")?.[0] ?? numbers("unit")?.[0] ?? null, view: numbers("view"), tab: asked.get("tab") || "look",
      edits: edits && Array.isArray(edits.mute) && Array.isArray(edits.set) ? edits : null,
      difference: asked.get("difference") === "1", beside: ["other", "difference"].find((one) => one === asked.get("beside")) || "", overlay: overlayOf(asked.get("overlay") || ""), pixels: asked.get("pixels"), walk, theme: asked.get("theme"), language: asked.get("language"),
    };
  }

  /** Write what is shown into the address, so that it can be opened again. */
  remember() {
    if (!this.options.address || !this.state) return;
    const told = new URLSearchParams();
    if (this.picture) told.set("picture", this.picture);
    told.set("layer", this.chosen.layer);
    if (this.unit) told.set("unit", this.unit.unit.join(","));
    else told.set("channel", this.chosen.channel);
    if (!this.viewport.fitted) {
      told.set("view", [this.viewport.row, this.viewport.column, this.viewport.scale].map((one) => Number(one.toPrecision(7))).join(","));
    }
    if (this.editsText()) told.set("edits", this.editsText());
    if (this.difference) told.set("difference", "1");
    if (this.evidence.on) told.set("pixels", this.evidence.against);
    if (this.beside.side) told.set("beside", this.beside.side);
    if (this.overlay.kind) told.set("overlay", `${this.overlay.kind},${this.overlay.opacity}`);
    if (this.tab === "walk") {
      told.set("tab", "walk");
      told.set("walk", new URLSearchParams(this.walkPanel.asked).toString());
    }
    this.writing = true;
    history.replaceState(null, "", "#" + told);
    this.writing = false;
  }
}

/** "truth,0.5" as the kind of an overlay and its opacity. */
function overlayOf(text) {
  const [kind, opacity] = text.split(",");
  return kind ? [kind, Math.max(0, Math.min(1, Number(opacity) || 0.55))] : null;
}

function asElement(canvas) {
  return canvas;
}

function split(line) {
  const at = line.lastIndexOf(" ", line.search(/[a-z\u4e00-\u9fff]{2,}/u));
  const keys = line.startsWith("Backspace") ? "Backspace" : line.slice(0, at);
  return [keys, line.slice(keys.length + 1)];
}

function numbersOf({ data, raw }) {
  return data.dtype === "float64" ? new Float64Array(raw) : new Float32Array(raw);
}

function unravel(index, shape) {
  const place = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    place.unshift(index % shape[axis]);
    index = Math.floor(index / shape[axis]);
  }
  return place;
}

/** The picture's box that numbers at every `step`-th pixel stand for. */
function spanned({ box, step, shape }) {
  return [box[0], box[0] + shape[0] * step, box[2], box[2] + shape[1] * step];
}

/** A box with a fifth more on each side, so that a small pan needs nothing new. */
function padded([top, bottom, left, right], size) {
  const [dy, dx] = [Math.ceil((bottom - top) / 5), Math.ceil((right - left) / 5)];
  return [Math.max(0, top - dy), Math.min(size[0], bottom + dy), Math.max(0, left - dx), Math.min(size[1], right + dx)];
}

function stored(name) {
  try {
    return localStorage.getItem("eyeshot-" + name) || "";
  } catch {
    return "";
  }
}

function store(name, value) {
  try {
    localStorage.setItem("eyeshot-" + name, value);
  } catch {
    // A page that may keep nothing works as well.
  }
}

/** Show the studio in an element. */
export function mount(root, source, options = { address: true }) {
  const studio = new Studio(root, source, options);
  root.replaceChildren();
  studio.started = studio.start().catch((error) => {
    root.replaceChildren(h("p", { class: "starting" }, String(error.message || error)));
    throw error;
  });
  return studio;
}
