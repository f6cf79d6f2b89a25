// Elements from plain calls, and numbers in writing.

/** An element: h("button", {class: "x", onclick: f}, "text", child). Text is never parsed. */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  fill(element, properties, children);
  return element;
}

/** The same within an SVG. */
export function svg(tag, properties, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, properties, children);
  return element;
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") {
      for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    } else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
}

/** Put new children in place of the old. */
export function refill(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
}

/** A number to be read: four digits that matter, a real minus, no needless zeros. */
export function show(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
    text = value.toExponential(Math.max(0, digits - 2)).replace("e+", "e");
  } else {
    text = String(Number(value.toPrecision(digits)));
  }
  return text.replaceAll("-", "−");
}

/** A number in as little room as there is in a cell: .07, −1.4, 230. */
export function tight(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return show(value);
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 9999.5) return value.toExponential(0).replace("e+", "e").replace("-", "−");
  const text = size < 0.005 ? "0" : size < 9.995 ? size.toFixed(size < 0.995 ? 2 : 1) : String(Math.round(size));
  return (value < 0 && text !== "0" ? "−" : "") + text.replace(/^0\./, ".").replace(/\.0$/, "");
}

/** A count in short: 1,234 as it is, 46.5 k, 3.2 M. */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value < 10000) return value.toLocaleString("en-US");
  const units = [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"]];
  for (const [size, unit] of units) {
    if (value >= size) return Number((value / size).toPrecision(3)) + unit;
  }
  return String(value);
}

/** Bytes in short. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  return value < 1000 ? value + " B" : count(value).replace(/^([\d,.]+)( [kMGT])?$/, (_, n, u) =>
    u ? n + u + "B" : Number((value / 1000).toPrecision(3)) + " kB");
}

/** 3×28×28. */
export function by(sizes) {
  return sizes.join("×");
}

/** Runs the last of many calls, once they pause or at the latest each `wait` milliseconds. */
export function paced(wait, act) {
  let timer = null;
  let late = null;
  return (...values) => {
    late = values;
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      act(...late);
    }, wait);
  };
}
