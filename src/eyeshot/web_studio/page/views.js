// Two panes with one viewport: the picture, and a map of the chosen layer laid on the same pixels.

import { canvasOf, paintNumbers } from "./colors.js";

const MOST_ZOOM = 96; // screen pixels for one picture pixel
const CLICK = 4; // screen pixels that a click may wander

/** What both panes look at: the picture's point in the middle, and screen pixels a pixel. */
export class Viewport {
  constructor(changed) {
    this.changed = changed;
    this.size = [1, 1];
    this.fitted = true;
    this.row = 0.5;
    this.column = 0.5;
    this.scale = 1;
    this.pane = [1, 1];
  }

  /** A picture of another size; of a wide one its middle is shown, pixel by pixel. */
  setSize(size, wide) {
    const same = this.size[0] === size[0] && this.size[1] === size[1];
    this.size = size;
    if (same) return;
    if (wide) this.set(size[0] / 2, size[1] / 2, 1);
    else this.fit();
  }

  setPane(wide, high) {
    this.pane = [high, wide];
    if (this.fitted) this.fit();
  }

  least() {
    return Math.min(this.pane[0] / this.size[0], this.pane[1] / this.size[1]) * 0.94;
  }

  fit() {
    this.fitted = true;
    this.row = this.size[0] / 2;
    this.column = this.size[1] / 2;
    this.scale = Math.max(1e-6, this.least());
    this.changed();
  }

  /** Zoom by a factor, and leave the point under (x, y) of the pane where it is. */
  zoom(factor, x = this.pane[1] / 2, y = this.pane[0] / 2) {
    const scale = Math.max(this.least() / 2, Math.min(MOST_ZOOM, this.scale * factor));
    const [row, column] = this.at(x, y);
    this.scale = scale;
    this.row = row - (y - this.pane[0] / 2) / scale;
    this.column = column - (x - this.pane[1] / 2) / scale;
    this.fitted = false;
    this.hold();
  }

  pan(dx, dy) {
    this.row -= dy / this.scale;
    this.column -= dx / this.scale;
    this.fitted = false;
    this.hold();
  }

  set(row, column, scale) {
    this.row = row;
    this.column = column;
    this.scale = scale;
    this.fitted = false;
    this.hold();
  }

  hold() {
    this.row = Math.max(0, Math.min(this.size[0], this.row));
    this.column = Math.max(0, Math.min(this.size[1], this.column));
    this.changed();
  }

  /** The picture's point (row, column) under a point of the pane. */
  at(x, y) {
    return [this.row + (y - this.pane[0] / 2) / this.scale, this.column + (x - this.pane[1] / 2) / this.scale];
  }

  /** Where a point of the picture is on the pane. */
  place(row, column) {
    return [(column - this.column) * this.scale + this.pane[1] / 2, (row - this.row) * this.scale + this.pane[0] / 2];
  }

  /** The part of the picture in view: rows lo, hi, columns lo, hi, in whole pixels. */
  box() {
    const [top, left] = this.at(0, 0);
    const [bottom, right] = this.at(this.pane[1], this.pane[0]);
    return [Math.max(0, Math.floor(top)), Math.min(this.size[0], Math.ceil(bottom)),
      Math.max(0, Math.floor(left)), Math.min(this.size[1], Math.ceil(right))];
  }
}

/** Where a layer's units lie on the picture: unit i covers [start + i·stride, start + (i + 1)·stride). */
export class Lattice {
  constructor(layer, size) {
    const [, high, wide] = layer.planes;
    this.count = [high, wide];
    this.spatial = layer.spatial && layer.receptive_field.length === 2 && high * wide > 1;
    this.axes = [0, 1].map((axis) => {
      const field = this.spatial ? layer.receptive_field[axis] : null;
      const stride = field && field.stride ? field.stride : size[axis] / this.count[axis];
      const start = field && field.stride ? field.center + 0.5 - stride / 2 : 0;
      return { stride, start };
    });
  }

  /** The unit at a point of the picture, or null. */
  unit(row, column) {
    const found = [row, column].map((at, axis) => Math.floor((at - this.axes[axis].start) / this.axes[axis].stride));
    return found.every((at, axis) => at >= 0 && at < this.count[axis]) ? found : null;
  }

  /** The nearest unit. */
  nearest(row, column) {
    return [row, column].map((at, axis) => Math.max(0, Math.min(this.count[axis] - 1,
      Math.floor((at - this.axes[axis].start) / this.axes[axis].stride))));
  }

  /** A box of units as a box of the picture. */
  box(top, bottom, left, right) {
    const [rows, columns] = this.axes;
    return [rows.start + top * rows.stride, rows.start + bottom * rows.stride,
      columns.start + left * columns.stride, columns.start + right * columns.stride];
  }

  /** The units that a box of the picture meets. */
  units([top, bottom, left, right]) {
    const [rows, columns] = this.axes;
    return [Math.max(0, Math.floor((top - rows.start) / rows.stride)),
      Math.min(this.count[0], Math.ceil((bottom - rows.start) / rows.stride)),
      Math.max(0, Math.floor((left - columns.start) / columns.stride)),
      Math.min(this.count[1], Math.ceil((right - columns.start) / columns.stride))];
  }
}

/** One pane: a picture that it is given, with boxes on it, to be panned, zoomed and clicked. */
export class Pane {
  constructor(viewport, acts, label) {
    this.viewport = viewport;
    this.acts = acts;
    this.pictures = [];
    this.marks = [];
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label);
    this.canvas.className = "pane";
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.canvas);
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.viewport.setPane(clientWidth, clientHeight);
    this.draw();
  }

  listen() {
    const canvas = this.canvas;
    let start = null;
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.viewport.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      start = { x: event.offsetX, y: event.offsetY, moved: false };
      const point = this.viewport.at(event.offsetX, event.offsetY);
      if (this.acts.paint?.(point, point)) start = { ...start, brush: point };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (start && start.brush) {
        const point = this.viewport.at(event.offsetX, event.offsetY);
        this.acts.paint(point, start.brush);
        start.brush = point;
      } else if (start) {
        const [dx, dy] = [event.offsetX - start.x, event.offsetY - start.y];
        if (start.moved || Math.hypot(dx, dy) > CLICK) {
          this.viewport.pan(dx, dy);
          start = { x: event.offsetX, y: event.offsetY, moved: true };
        }
      }
      this.acts.hover(...this.viewport.at(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("pointerup", (event) => {
      if (start && !start.moved && !start.brush) {
        this.acts.click(...this.viewport.at(event.offsetX, event.offsetY), event);
      }
      start = null;
    });
    canvas.addEventListener("pointerleave", () => this.acts.leave());
    canvas.addEventListener("dblclick", (event) => this.viewport.zoom(2, event.offsetX, event.offsetY));
  }

  /** Pictures from below: {canvas, box: rows lo, hi, columns lo, hi of the picture, alpha, smooth}. */
  show(pictures) {
    this.pictures = pictures;
    this.draw();
  }

  /** Boxes: {box, kind}. */
  mark(marks) {
    this.marks = marks;
    this.draw();
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const one of this.pictures) {
      const [x, y, wide, high] = this.onPane(one.box);
      context.globalAlpha = one.alpha ?? 1;
      context.imageSmoothingEnabled = wide < one.canvas.width;
      context.drawImage(one.canvas, x, y, wide, high);
    }
    context.globalAlpha = 1;
    const [x, y, wide, high] = this.onPane([0, this.viewport.size[0], 0, this.viewport.size[1]]);
    const style = getComputedStyle(this.canvas);
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = 1;
    context.strokeRect(x - 0.5, y - 0.5, wide + 1, high + 1);
    for (const one of this.marks) this.drawMark(context, one, style);
  }

  onPane([top, bottom, left, right]) {
    const [x, y] = this.viewport.place(top, left);
    return [x, y, (right - left) * this.viewport.scale, (bottom - top) * this.viewport.scale];
  }

  drawMark(context, mark, style) {
    let [x, y, wide, high] = this.onPane(mark.box);
    const grown = Math.max(0, 5 - Math.min(wide, high)) / 2;
    if (grown) [x, y, wide, high] = [x - grown, y - grown, wide + 2 * grown, high + 2 * grown];
    const color = style.getPropertyValue(mark.kind === "hover" ? "--soft" : mark.kind === "reach" ? "--cool" : "--accent");
    context.save();
    if (mark.kind === "field" && mark.picture) {
      // Outside of the picture stands padding: striped.
      const inside = this.onPane(mark.picture);
      context.beginPath();
      context.rect(x, y, wide, high);
      context.rect(...inside);
      context.clip("evenodd");
      context.beginPath();
      context.rect(x, y, wide, high);
      context.clip();
      context.strokeStyle = color;
      context.globalAlpha = 0.45;
      context.lineWidth = 1;
      context.beginPath();
      for (let i = -high; i < wide; i += 6) {
        context.moveTo(x + i, y + high);
        context.lineTo(x + i + high, y);
      }
      context.stroke();
      context.restore();
      context.save();
    }
    context.lineWidth = 4;
    context.strokeStyle = style.getPropertyValue("--halo");
    context.strokeRect(x, y, wide, high);
    context.lineWidth = mark.kind === "hover" ? 1 : 2;
    context.strokeStyle = color;
    if (mark.kind === "hover") context.setLineDash([3, 3]);
    context.strokeRect(x, y, wide, high);
    if (mark.kind === "dot") {
      context.fillStyle = color;
      context.fillRect(x, y, wide, high);
    }
    context.restore();
  }
}

/** Numbers of a map as a picture for a pane. */
export function numbersPicture(numbers, shape, box, lattice, step, largest, signed) {
  const [, high, wide] = shape;
  const canvas = canvasOf(paintNumbers(numbers, wide, high, largest, signed));
  const [top, , left] = box;
  return { canvas, box: lattice.box(top, top + high * step, left, left + wide * step) };
}
