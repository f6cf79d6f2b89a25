// The network from top to bottom: each layer with its shape, field, cost, findings and maps.

import { canvasOf, paintBytes } from "./colors.js";
import { bytes, by, count, h, refill, svg } from "./dom.js";
import { kindOf, say } from "./words.js";

const FOLDED_FROM = 60; // layers, from which modules begin folded
const TILE = 36;

/** By what layers may be colored, each as a share from 0 to 1 and a text. */
export const COLORINGS = ["nothing", "field", "cost", "parametersOf", "memory", "dead", "findings"];

export class NetworkPanel {
  constructor(app) {
    this.app = app;
    this.root = h("section", { class: "network", "aria-label": say("network") });
    this.folded = null;
    this.coloring = "nothing";
    this.deadShares = null;
    this.strips = new Map();
    this.watcher = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) this.fetchStrip(entry.target);
    }, { rootMargin: "300px" });
  }

  /** Everything again, for a new network, picture or language. */
  render() {
    const { state } = this.app;
    this.strips.clear();
    this.deadShares = this.deadChannels = null;
    this.deadBegins = [];
    this.watcher.disconnect();
    if (this.folded === null) {
      this.folded = new Set(state.layers.length > FOLDED_FROM ? this.groups().map((one) => one.name) : []);
    }
    const total = state.network.total;
    const select = h("select", { "aria-label": say("colorBy"), onchange: (event) => this.color(event.target.value) },
      COLORINGS.map((one) => h("option", { value: one, selected: one === this.coloring }, say(one))));
    this.list = h("ol", { class: "layers", role: "listbox", tabindex: 0, "aria-label": say("network"), onkeydown: (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.app.stepLayer(step);
    } });
    refill(this.root,
      h("header", {},
        h("h2", {}, state.network.class, h("span", { class: "soft" }, " · ", say("layers", state.layers.filter((one) => !one.input).length))),
        h("p", {}, [say("parameters", count(total.parameters)), say("operations", count(total.multiply_adds))].join(" · ")),
        this.app.beside.summary(),
        h("label", { class: "coloring" }, say("colorBy"), " ", select)),
      this.findingsPlace = h("div", {}, this.findings()),
      this.list);
    this.fill();
    this.color(this.coloring);
    this.markDead();
  }

  /** Once there is time: at each layer the maps that are zero everywhere in this picture. */
  async markDead() {
    const { app } = this;
    const { rows, deadShares } = this;
    if (!app.state.network.runs || app.state.picture.wide || (!app.source.live && !app.source.has("dead", { of: app.beside.of("dead") }))) return;
    await new Promise((done) => { setTimeout(done, 300); });
    if (this.rows !== rows) return; // another network or picture is shown by now
    if (!deadShares) await this.askDead();
    if (this.rows !== rows) return;
    for (const [name, channels] of Object.entries(this.deadChannels || {})) {
      const row = rows.get(name);
      if (!row) continue;
      row.querySelector(".dead-mark")?.remove();
      row.querySelector(".line").insertBefore(h("button", { class: "plain dead-mark", title: `${say("channel")} ${channels.slice(0, 40).join(", ")}${channels.length > 40 ? " …" : ""}`, onclick: (event) => {
        event.stopPropagation();
        app.choose({ layer: name, channel: channels[0] });
      } }, deadText(channels)), row.querySelector(".shape"));
    }
  }

  async askDead() {
    const answer = await this.app.ask("dead", {}, { slot: "dead", quiet: true });
    this.deadShares = answer ? answer.data.shares : null;
    this.deadChannels = answer ? answer.data.channels : null;
    this.deadBegins = answer ? answer.data.begins : [];
    const open = this.findingsPlace.querySelector("details")?.open;
    refill(this.findingsPlace, this.findings());
    if (open) this.findingsPlace.querySelector("details").open = true;
  }

  /** Channels that are zero everywhere, each where it begins, written as findings are. */
  deadFindings() {
    return this.deadBegins.map(({ layer, channels, always }) => {
      const named = channels.slice(0, 12).join(", ") + (channels.length > 12 ? " …" : "");
      return { severity: "note", title: say("deadTitle"), layer, channel: channels[0],
        cause: say(always ? "deadAlways" : "deadHere", named), cure: say(always ? "deadAlwaysCure" : "deadHereCure") };
    });
  }

  findings() {
    const findings = [...this.app.state.findings, ...this.deadFindings()];
    if (!findings.length) return null;
    const worst = findings.some((one) => one.severity === "error") ? "error"
      : findings.some((one) => one.severity === "warning") ? "warning" : "note";
    return h("details", { class: "findings " + worst, open: worst === "error" },
      h("summary", {}, `${say("findingsTitle")}${say("colon")}${findings.length}`),
      findings.map((one) => h("div", { class: "finding " + one.severity },
        h("button", { class: "plain", onclick: () => this.app.choose({ layer: one.layer, channel: one.channel ?? null }) },
          h("strong", {}, one.title), h("span", { class: "mono" }, " ", one.layer)),
        h("p", {}, one.cause), h("p", { class: "cure" }, one.cure))));
  }

  /** Runs of layers within one module, of three or more. */
  groups() {
    const found = [];
    for (const layer of this.app.state.layers) {
      const name = layer.name.includes(".") ? layer.name.split(".")[0] : "";
      const last = found[found.length - 1];
      if (name && last && last.name === name) last.layers.push(layer);
      else found.push({ name, layers: [layer] });
    }
    return found.filter((one) => one.name && one.layers.length > 2);
  }

  fill() {
    const grouped = new Map();
    for (const group of this.groups()) for (const layer of group.layers) grouped.set(layer.name, group);
    this.rows = new Map();
    this.heads = new Map();
    const items = [];
    for (const layer of this.app.state.layers) {
      const group = grouped.get(layer.name);
      if (group && group.layers[0] === layer) items.push(this.head(group));
      const row = this.row(layer, group);
      this.rows.set(layer.name, row);
      items.push(row);
    }
    this.arcs = svg("svg", { class: "arcs", "aria-hidden": "true" });
    refill(this.list, this.arcs, items);
    this.fold();
  }

  head(group) {
    const last = group.layers[group.layers.length - 1];
    const head = h("li", { class: "group" },
      h("button", { class: "plain", "aria-expanded": "true", onclick: () => {
        if (this.folded.has(group.name)) this.folded.delete(group.name);
        else this.folded.add(group.name);
        this.fold();
      } }, h("span", { class: "fold" }, "▾"), h("strong", {}, group.name),
      h("span", { class: "faint" }, say("layers", group.layers.length)),
      h("span", { class: "shape" }, by(last.shape))));
    this.heads.set(group.name, head);
    return head;
  }

  row(layer, group) {
    const cost = layer.parameters ? say("parameters", count(layer.parameters)) : "";
    const field = this.fieldText(layer);
    const marks = layer.findings.map((number) => {
      const finding = this.app.state.findings[number];
      return h("span", { class: "flag " + finding.severity, title: `${finding.title}: ${finding.cause}. ${finding.cure}` }, "!");
    });
    const strip = layer.minor || !this.app.state.network.runs ? null : h("canvas", { class: "strip", height: TILE, "aria-hidden": "true" });
    const row = h("li", {
      class: "layer" + (layer.minor ? " minor" : "") + (layer.input ? " input" : "") + (group ? " inner" : ""),
      role: "option", tabindex: -1, title: layer.place || null,
      onclick: () => this.app.choose({ layer: layer.name, channel: null, unit: null }),
    },
    h("span", { class: "bar" }),
    h("div", { class: "line" },
      h("strong", { class: "name" }, group ? layer.name.slice(group.name.length + 1) : layer.name),
      h("span", { class: "kind" }, layer.input ? say("input") : kindOf(layer.title)), marks, this.app.beside.flag(layer.name),
      layer.minor ? h("span", { class: "figure" }) : null, h("span", { class: "shape" }, by(layer.shape))),
    layer.minor ? null : h("div", { class: "facts" }, [field, this.options(layer), cost].filter(Boolean).join(" · "),
      h("span", { class: "figure" })),
    strip);
    row.id = `layer-${layer.name}`;
    row.dataset.layer = layer.name;
    row.group = group ? group.name : "";
    if (strip) this.watcher.observe(row);
    return row;
  }

  fieldText(layer) {
    if (layer.input) return "";
    if (layer.status === "whole image") return say("seesAll");
    if (!layer.receptive_field.length) return layer.status;
    const sides = layer.receptive_field.map((one) =>
      (one.smallest === one.largest ? String(one.largest) : `${one.smallest}–${one.largest}`));
    const ranges = sides.some((one) => one.includes("–")) && new Set(sides).size === 1;
    return say("sees", ranges ? sides[0] : by(sides));
  }

  options(layer) {
    const { kernel, stride } = layer.options;
    if (!Array.isArray(kernel)) return "";
    const even = (list) => (new Set(list).size === 1 ? list[0] : by(list));
    return `${say("kernel")} ${by(kernel)}` + (Array.isArray(stride) && stride.some((one) => one !== 1)
      ? ` · ${say("stride")} ${even(stride)}` : "");
  }

  fold() {
    for (const row of this.rows.values()) row.hidden = this.folded.has(row.group);
    for (const [name, head] of this.heads) {
      const folded = this.folded.has(name);
      head.classList.toggle("folded", folded);
      head.firstChild.setAttribute("aria-expanded", String(!folded));
    }
    this.drawArcs();
  }

  /** Connections that pass over other layers. */
  drawArcs() {
    const names = this.app.state.layers.map((one) => one.name);
    const middle = (name) => {
      const row = this.rows.get(name);
      const shown = row.hidden ? this.heads.get(row.group) : row;
      return shown.offsetTop + Math.min(18, shown.offsetHeight / 2);
    };
    const arcs = [];
    this.app.state.layers.forEach((layer, index) => {
      for (const source of layer.sources) {
        const from = names.indexOf(source);
        if (from < 0 || index - from < 2) continue;
        const [top, bottom] = [middle(source), middle(layer.name)];
        if (bottom - top < 8) continue;
        arcs.push([top, bottom]);
      }
    });
    const longest = Math.max(...arcs.map(([top, bottom]) => bottom - top), 1);
    const paths = arcs.flatMap(([top, bottom]) => {
      const x = 24 - 6 - 21 * ((bottom - top) / longest);
      return [svg("path", { d: `M24 ${top}C${x} ${top} ${x} ${bottom} 24 ${bottom}` }),
        svg("path", { class: "tip", d: `M20 ${bottom - 3.5}L25 ${bottom}L20 ${bottom + 3.5}` })];
    });
    this.list.classList.toggle("with-arcs", paths.length > 0);
    this.arcs.setAttribute("height", this.list.scrollHeight);
    this.arcs.replaceChildren(...paths);
  }

  /** Mark the chosen layer, and the boxes of the chosen unit on the layers before it. */
  mark() {
    const { layer } = this.app.chosen;
    for (const [name, row] of this.rows) {
      row.setAttribute("aria-selected", String(name === layer));
      if (name === layer) this.list.setAttribute("aria-activedescendant", row.id);
      row.classList.toggle("seen", Boolean(this.app.boxes && this.app.boxes[name]));
      const strip = this.strips.get(name);
      if (strip) this.drawStrip(row, strip);
    }
  }

  /** Show the chosen layer, if it is out of sight. */
  reveal() {
    const row = this.rows.get(this.app.chosen.layer);
    if (!row) return;
    if (row.hidden) {
      this.folded.delete(row.group);
      this.fold();
    }
    const [top, bottom] = [row.offsetTop, row.offsetTop + row.offsetHeight];
    const view = this.root;
    if (top < view.scrollTop || bottom > view.scrollTop + view.clientHeight) {
      view.scrollTop = Math.max(0, top - view.clientHeight / 3);
    }
  }

  async fetchStrip(row) {
    const name = row.dataset.layer;
    this.watcher.unobserve(row);
    if (this.strips.has(name) || !this.app.state.network.runs || this.app.beside.lacks(name)) return;
    if (this.app.beside.side === "difference" && this.app.state.picture.wide) return;
    const answer = await this.app.ask("strip", { layer: name, most: 32 }, { quiet: true });
    if (!answer || this.rows.get(name) !== row) return;
    const strip = { ...answer.data, tiles: tilesOf(answer) };
    this.strips.set(name, strip);
    this.drawStrip(row, strip);
  }

  /** All strips once more, for another place of the picture. */
  again() {
    this.strips.clear();
    for (const row of this.rows.values()) if (row.querySelector("canvas")) this.watcher.observe(row);
  }

  drawStrip(row, strip) {
    const canvas = row.querySelector("canvas");
    const wide = row.clientWidth - 24;
    if (!canvas || wide < 10) return;
    const ratio = window.devicePixelRatio || 1;
    if (!strip.tiles.length) return;
    const vector = strip.shape[1] === 1;
    const high = vector ? 12 : TILE;
    canvas.width = wide * ratio;
    canvas.height = high * ratio;
    canvas.style.height = high + "px";
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.imageSmoothingEnabled = false;
    const boxes = this.app.boxes && this.app.boxes[row.dataset.layer];
    if (vector) {
      context.drawImage(strip.tiles[0], 0, 0, Math.min(wide, strip.shape[2] * 12), high);
      return;
    }
    const scale = TILE / Math.max(strip.shape[1], strip.shape[2]);
    const [tileWide, tileHigh] = [strip.shape[2] * scale, strip.shape[1] * scale];
    const shown = Math.min(strip.tiles.length, Math.floor((wide + 3) / (tileWide + 3)));
    const style = getComputedStyle(canvas);
    for (let i = 0; i < shown; i++) {
      const x = i * (tileWide + 3);
      context.drawImage(strip.tiles[i], x, 0, tileWide, tileHigh);
      if (boxes) {
        const [[top, bottom], [left, right]] = boxes;
        const [sy, sx] = [tileHigh / strip.of[1], tileWide / strip.of[2]];
        context.strokeStyle = style.getPropertyValue("--accent");
        context.lineWidth = 1.5;
        context.strokeRect(x + left * sx, top * sy, Math.max(2, (right - left) * sx), Math.max(2, (bottom - top) * sy));
      }
    }
  }

  async color(name) {
    this.coloring = name;
    this.list.classList.toggle("by-color", name !== "nothing");
    if ((name === "dead" || name === "findings") && !this.deadShares) await this.askDead();
    if (this.coloring !== name) return; // another was chosen meanwhile
    const { layers } = this.app.state;
    const values = layers.map((one) => this.value(one));
    const largest = Math.max(...values.map((one) => (one ? one[0] : 0)), 1e-12);
    layers.forEach((layer, index) => {
      const row = this.rows.get(layer.name);
      const bar = row.querySelector(".bar");
      const found = values[index];
      row.classList.toggle("colored", Boolean(found && found[0] > 0));
      bar.style.setProperty("--share", found ? String(Math.sqrt(found[0] / largest)) : "0");
      const figure = row.querySelector(".figure");
      if (figure) figure.textContent = found && name !== "findings" && (found[0] > 0 || !layer.minor) ? found[1] : "";
    });
  }

  /** What a layer is colored by: a number, and how it is written. */
  value(layer) {
    const sides = layer.receptive_field.map((one) => one.largest);
    switch (this.coloring) {
      case "field": return sides.length ? [Math.max(...sides), by(sides)] : null;
      case "cost": return [layer.multiply_adds || 0, count(layer.multiply_adds || 0)];
      case "parametersOf": return [layer.parameters || 0, count(layer.parameters || 0)];
      case "memory": return [layer.memory || 0, bytes(layer.memory || 0)];
      case "dead": {
        const share = (this.deadShares || {})[layer.name];
        return share === undefined ? null : [share, Math.round(100 * share) + " %"];
      }
      case "findings": {
        const found = layer.findings.length + this.deadBegins.filter((one) => one.layer === layer.name).length;
        return [found, String(found)];
      }
      default: return null;
    }
  }
}

/** Which channels are dead, or how many where they are many. */
export function deadText(channels) {
  return channels.length > 3 ? say("deadCount", channels.length) : say("deadChannels", channels.join(", "));
}

/** The tiles of a strip, each on a canvas. */
export function tilesOf({ data, raw }) {
  const pixels = new Uint8Array(raw);
  const [tiles, high, wide] = data.shape;
  return Array.from({ length: tiles }, (_, i) =>
    canvasOf(paintBytes(pixels, i * high * wide, wide, high, data.signed)));
}
