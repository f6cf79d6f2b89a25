// Numbers to colors that any eye tells apart: dark to bright for what is never negative, and blue
// over white to red for what is. Green is no number.

const BRIGHT = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100],
  [251, 135, 97], [254, 194, 135], [252, 253, 191]];
const SIGNED = [[5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240],
  [247, 247, 247], [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31]];
const NO_NUMBER = [46, 160, 67];

function table(anchors) {
  const colors = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (anchors.length - 1);
    const low = Math.min(Math.floor(at), anchors.length - 2);
    for (let c = 0; c < 3; c++) {
      colors[3 * i + c] = Math.round(anchors[low][c] + (at - low) * (anchors[low + 1][c] - anchors[low][c]));
    }
  }
  return colors;
}

const BRIGHT_TABLE = table(BRIGHT);
const SIGNED_TABLE = table(SIGNED);

/** The color of one number; `largest` is the end of the scale. */
export function colorOf(value, largest, signed) {
  if (!Number.isFinite(value)) return `rgb(${NO_NUMBER})`;
  const share = Math.max(-1, Math.min(1, value / (largest || 1)));
  const index = signed ? Math.round(127.5 + 127.5 * share) : Math.round(255 * Math.max(0, share));
  const colors = signed ? SIGNED_TABLE : BRIGHT_TABLE;
  return `rgb(${colors[3 * index]},${colors[3 * index + 1]},${colors[3 * index + 2]})`;
}

/** A pale color for a cell whose number is to be read: white is 0. */
export function paleColorOf(value, largest) {
  return colorOf(0.42 * Math.sign(value) * Math.sqrt(Math.abs(value) / (largest || 1)), 1, true);
}

/** Whether text on that color should be light. */
export function isDark(value, largest, signed) {
  const share = Math.abs(value / (largest || 1));
  return signed ? share > 0.62 : share < 0.6;
}

/** Numbers (h, w) as an image; brightness grows with the square root. */
export function paintNumbers(numbers, wide, high, largest, signed) {
  const image = new ImageData(Math.max(1, wide), Math.max(1, high));
  const colors = signed ? SIGNED_TABLE : BRIGHT_TABLE;
  for (let i = 0; i < wide * high; i++) {
    const value = numbers[i];
    if (!Number.isFinite(value)) {
      image.data.set([...NO_NUMBER, 255], 4 * i);
      continue;
    }
    const share = Math.sqrt(Math.min(1, Math.abs(value) / (largest || 1)));
    const index = signed ? Math.round(127.5 + 127.5 * (value < 0 ? -share : share))
      : Math.round(255 * (value < 0 ? 0 : share));
    image.data[4 * i] = colors[3 * index];
    image.data[4 * i + 1] = colors[3 * index + 1];
    image.data[4 * i + 2] = colors[3 * index + 2];
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** Bytes of a strip, of which the server has taken the root already, as an image. */
export function paintBytes(pixels, start, wide, high, signed) {
  const image = new ImageData(Math.max(1, wide), Math.max(1, high));
  const colors = signed ? SIGNED_TABLE : BRIGHT_TABLE;
  for (let i = 0; i < wide * high; i++) {
    const index = pixels[start + i];
    image.data[4 * i] = colors[3 * index];
    image.data[4 * i + 1] = colors[3 * index + 1];
    image.data[4 * i + 2] = colors[3 * index + 2];
    image.data[4 * i + 3] = 255;
  }
  return image;
}

/** An image on a canvas of its own, to be drawn enlarged. */
export function canvasOf(image) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The scale beside a map: its colors from the least to the largest number. */
export function scaleBar(signed) {
  const colors = signed ? SIGNED_TABLE : BRIGHT_TABLE;
  const image = new ImageData(128, 1);
  for (let i = 0; i < 128; i++) {
    const share = signed ? (i - 63.5) / 63.5 : i / 127;
    const root = Math.sqrt(Math.abs(share));
    const index = signed ? Math.round(127.5 + 127.5 * (share < 0 ? -root : root)) : Math.round(255 * root);
    image.data.set([colors[3 * index], colors[3 * index + 1], colors[3 * index + 2], 255], 4 * i);
  }
  return canvasOf(image);
}
