// Where answers come from: a server, the page's own data, or the notebook's kernel.

/** Something went wrong that a person should read. */
export class Refusal extends Error {
  constructor(fact, cure, anyway = false) {
    super(fact);
    this.cure = cure || "";
    this.anyway = anyway; // whether it is computed when it is asked for all the same
  }
}

/** An answer: plain data, and numbers beside it. */
export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  return { data: JSON.parse(text), raw: buffer.slice(4 + length) };
}

/** The same question is always written in the same way. */
export function question(name, values) {
  const asked = new URLSearchParams();
  for (const key of Object.keys(values || {}).sort()) {
    const value = values[key];
    if (value !== null && value !== undefined && value !== "") asked.set(key, String(value));
  }
  const text = asked.toString();
  return text ? name + "?" + text : name;
}

/** Asks the server that served the page. */
export class ServerSource {
  constructor(base) {
    this.base = base;
    this.live = true;
  }

  async ask(name, values, options = {}) {
    let answer;
    try {
      answer = await fetch(new URL("api/" + question(name, values), this.base), {
        method: options.body ? "POST" : "GET",
        body: options.body,
        signal: options.signal,
        credentials: "omit",
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refusal("the studio does not answer", "start eyeshot studio again");
    }
    if (!answer.ok) {
      const told = await answer.json().catch(() => ({ error: `the studio said ${answer.status}` }));
      throw new Refusal(told.error, told.cure, told.anyway);
    }
    return decode(await answer.arrayBuffer());
  }
}

/** Answers from what was written into the page. */
export class FileSource {
  constructor(answers) {
    this.answers = answers;
    this.live = false;
    this.file = JSON.parse(answers.file || "null"); // how many units it holds, and how many were left out
    this.units = new Map(); // by layer, those that the file holds
    for (const key of Object.keys(answers)) {
      if (!key.startsWith("unit?")) continue;
      const asked = new URLSearchParams(key.slice(5));
      if (asked.get("of")) continue;
      const layer = asked.get("layer");
      if (!this.units.has(layer)) this.units.set(layer, []);
      this.units.get(layer).push(asked.get("unit").split(",").map(Number));
    }
  }

  async ask(name, { picture, edits, language, ...values }) {
    const found = this.answers[question(name, { ...values, language })] ?? this.answers[question(name, values)];
    if (found === undefined) throw new Refusal("not in this file", "run eyeshot studio for it");
    const letters = atob(found);
    const packed = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
    return decode(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer());
  }

  has(name, values) {
    return this.answers[question(name, values)] !== undefined;
  }
}

/** Asks the kernel of a notebook, through an anywidget model. */
export class KernelSource {
  constructor(model) {
    this.model = model;
    this.live = true;
    this.next = 1;
    this.waiting = new Map();
    model.on("msg:custom", (message, buffers) => this.hear(message, buffers));
  }

  ask(name, values, options = {}) {
    const number = this.next++;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      const body = options.body ? [options.body.buffer || options.body] : [];
      this.model.send({ number, name, values: Object.fromEntries(
        Object.entries(values || {}).filter(([, v]) => v !== null && v !== undefined && v !== "")
          .map(([k, v]) => [k, String(v)])) }, undefined, body);
      if (options.signal) {
        options.signal.addEventListener("abort", () => {
          if (this.waiting.delete(number)) reject(new DOMException("aborted", "AbortError"));
        });
      }
    });
  }

  hear(message, buffers) {
    const asked = this.waiting.get(message.number);
    if (!asked) return;
    this.waiting.delete(message.number);
    if (message.error) {
      asked.reject(new Refusal(message.error, message.cure, message.anyway));
      return;
    }
    const view = buffers[0];
    asked.resolve(decode(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)));
  }
}
