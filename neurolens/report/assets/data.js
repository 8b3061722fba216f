"use strict";
/* Data: the runs of this file. A blob is base64 of gzip of a header and arrays, decoded when it is first asked for. */
const Data = (() => {
  const KINDS = { u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array, i4: Int32Array,
    f4: Float32Array, f8: Float64Array };
  const known = new Map();

  class Damaged extends Error {}

  /* The text of an element that the browser may still be reading. */
  async function textOf(id) {
    for (;;) {
      const node = document.getElementById(id);
      if (node && (node.nextElementSibling || document.readyState !== "loading")) return node.textContent;
      if (document.readyState !== "loading") throw new Damaged(`it has no part ${id}`);
      await new Promise((done) => setTimeout(done, 15));
    }
  }

  function fromBase64(text) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const characters = atob(text);
    const bytes = new Uint8Array(characters.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
    return bytes;
  }

  async function decode(id) {
    const text = await textOf(id);
    if (typeof DecompressionStream === "undefined") {
      throw new Error("This browser cannot unpack the data (it has no DecompressionStream): it takes Chrome or Edge 80,"
        + " Firefox 113, Safari 16.4 or newer.");
    }
    try {
      const packed = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
      const buffer = await new Response(packed).arrayBuffer();
      const length = new DataView(buffer).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
      const arrays = Object.create(null);
      for (const [name, [kind, shape, offset]] of Object.entries(header)) {
        arrays[name] = new KINDS[kind](buffer, 4 + length + offset, shape.reduce((a, b) => a * b, 1));
        arrays[name].shape = shape;
      }
      return arrays;
    } catch (error) {
      throw new Damaged(`its part ${id} cannot be unpacked: ${error.message}`);
    }
  }

  /* Promise of a blob's arrays: `{name: typed array with a shape}`. Fails with Damaged. */
  function blob(id) {
    if (!known.has(id)) known.set(id, decode(id));
    return known.get(id);
  }

  /* Entries by value: `start[v]` to `start[v + 1]` of `owner` are of those whose `values[k]` is v, in their order. */
  function invert(values, owners, size) {
    const start = new Uint32Array(size + 1);
    for (let k = 0; k < values.length; k++) start[values[k] + 1]++;
    for (let v = 0; v < size; v++) start[v + 1] += start[v];
    const at = start.slice(0, size);
    const owner = new Uint32Array(values.length);
    for (let k = 0; k < values.length; k++) owner[at[values[k]]++] = owners[k];
    return { start, owner };
  }

  class Run {
    constructor(meta, number) {
      Object.assign(this, { meta, number });
      this.bits = Object.assign(Object.create(null), ...meta.flags.map((flag, i) => ({ [flag]: (1 << i) >>> 0 })));
    }
    has(part) { return this.meta.parts.includes(part); }
    href(route) { return `#${this.number ? `${this.number}:` : ""}${route}`; }

    /* Reads the table and the vocabulary. */
    open() {
      const { blobs } = this.meta;
      this.opened ??= Promise.all([blob(blobs.table), blob(blobs.vocabulary)]).then(([table, words]) => {
        Object.assign(this, { table, words, size: table.layer.length, vocabulary: words.start.length - 1 });
        this.starts = new Map(this.meta.layers.map((layer) => [layer, [this.size, this.size]]));
        for (let row = 0; row < this.size; row++) {
          const span = this.starts.get(table.layer[row]);
          if (row < span[0]) span[0] = row;
          span[1] = row + 1;
        }
        return this;
      });
      return this.opened;
    }
    has_flag(row, flag) { return (this.table.flags[row] & (this.bits[flag] ?? 0)) !== 0; }
    name(row) { return `${this.table.layer[row]}.${this.table.neuron[row]}`; }
    /* The row of a neuron; −1 if this page has none. */
    row(layer, neuron) {
      let [low, high] = this.starts.get(layer) ?? [0, 0];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.table.neuron[middle] < neuron) low = middle + 1;
        else high = middle;
      }
      return low < this.size && this.table.layer[low] === layer && this.table.neuron[low] === neuron ? low : -1;
    }
    bytes(id) {
      return id >= 0 && id < this.vocabulary ? this.words.bytes.subarray(this.words.start[id], this.words.start[id + 1])
        : new TextEncoder().encode(`‹token ${id}›`);
    }
    /* Texts of all tokens, and the same in lower case. */
    get texts() { return (this._texts ??= Text.all(this.words.start, this.words.bytes)); }
    get folded() { return (this._folded ??= this.texts.map((text) => text.toLowerCase())); }
    /* Tokens whose text has a part like this, whatever the case: Uint8Array over the vocabulary. */
    matching(query) {
      const part = query.replaceAll("␣", " ").toLowerCase();
      const { folded } = this;
      const match = new Uint8Array(folded.length);
      for (let id = 0; id < match.length; id++) match[id] = folded[id].includes(part) ? 1 : 0;
      return match;
    }
    /* Rows by the tokens of their triggers. */
    get users() {
      if (!this._users) {
        const { search_start: start, search_token: token } = this.table;
        const owners = new Uint32Array(token.length);
        for (let row = 0; row < this.size; row++) owners.fill(row, start[row], start[row + 1]);
        this._users = invert(token, owners, this.vocabulary);
      }
      return this._users;
    }
    usersOf(id) {
      if (!(id >= 0 && id < this.vocabulary)) return [];
      return this.users.owner.subarray(this.users.start[id], this.users.start[id + 1]);
    }
    text() { return blob(this.meta.blobs.text); }
    /* The arrays of the row's layer, and its number in them. */
    async details(row) {
      const layer = this.table.layer[row];
      return [await blob(this.meta.blobs.layers[layer]), row - this.starts.get(layer)[0]];
    }
    /* The shown triggers of a row: [{n, tokens, on, total, member, covered, projection, rank}, …]. */
    triggers(arrays, local) {
      const found = [];
      if (!arrays.trigger_start) return found;
      const width = arrays.trigger_tokens.shape[1];
      for (let k = arrays.trigger_start[local]; k < arrays.trigger_start[local + 1]; k++) {
        const n = arrays.trigger_n[k];
        const flags = arrays.trigger_flags[k];
        found.push({ n, tokens: [...arrays.trigger_tokens.subarray((k + 1) * width - n, (k + 1) * width)],
          on: arrays.on[k],
          total: arrays.total[k], member: (flags & 1) > 0, covered: (flags & 2) > 0,
          projection: arrays.projection?.[k] ?? NaN, rank: arrays.rank?.[k] ?? -1 });
      }
      return found;
    }
  }

  /* META with its runs opened up; Damaged if it cannot be read. */
  function read() {
    try {
      const meta = JSON.parse(document.getElementById("meta").textContent);
      if (meta.format !== 1) throw new Error(`format ${meta.format} is not known`);
      return { ...meta, runs: meta.runs.map((run, i) => new Run(run, i)) };
    } catch (error) {
      throw new Damaged(`its head cannot be read: ${error.message}`);
    }
  }
  return { read, Damaged };
})();
