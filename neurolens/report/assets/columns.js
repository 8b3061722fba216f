"use strict";
/* Columns: what the table of neurons shows of a row, and by what it sorts. */
const Columns = (() => {
  const { el } = Dom;

  /* Numbers of rows by a function of them. (`from` of typed arrays would take ten times as long.) */
  function numbers(run, of) {
    const found = new Float64Array(run.size);
    for (let row = 0; row < run.size; row++) found[row] = of(row);
    return found;
  }

  /* Columns of a run: id → [title, explanation, key(run): numbers to sort by (NaN last), cell(run, row)]. */
  function of(run) {
    const { table, meta } = run;
    const found = {
      __proto__: null,
      neuron: ["neuron", "layer.neuron", () => numbers(run, (row) => row),
        (row) => el("a", { href: run.href(run.name(row)), class: "id" }, run.name(row))],
      classes: ["classes", "what it is by the rules", () => numbers(run, (row) => table.flags[row] || NaN),
        (row) => Classes.badges(run, row, true)],
      frequency: ["frequency", "share of tokens it is active on; the bar is logarithmic, from a millionth to all", () =>
        table.frequency,
        (row) => [el("span", { class: "value" }, Text.percent(table.frequency[row])),
          Dom.bar(table.frequency[row] ? 1 + Math.log10(table.frequency[row]) / 6 : 0)]],
    };
    if (table.trigger) {
      found.trigger = ["top trigger", "the token it is active on most often, in the order of the alphabet", () =>
        alphabetical(run),
        (row) => (table.trigger[row] < 0 ? "–" : Dom.token(run, table.trigger[row]))];
    }
    for (let n = 0; n < meta.grams; n++) {
      found[Classes.COLUMNS[n]] = [`${Classes.GRAMS[n]}s`,
        `covering number: how many ${Classes.GRAMS[n]}s account for ${meta.rules.coverage ?? 95}% of its activations`,
        () => numbers(run, (row) => table.covering[row * meta.grams + n] || NaN),
        (row) => { const value = table.covering[row * meta.grams + n]; return value ? Text.count(value) : "–"; }];
    }
    if (table.suppression && run.has("updates")) {
      found.suppression = ["projection",
        "centred projection of its value vector at its triggers; below 0 it pushes them down", () => table.suppression,
        (row) => Text.fixed(table.suppression[row])];
    }
    if (table.position_mi) {
      found.position = ["position", "mutual information with the position, in nats, beyond chance", () =>
        table.position_mi,
        (row) => Text.fixed(table.position_mi[row])];
    }
    if (table.label_mi) {
      found.label = ["label", "mutual information with the label, in nats, beyond chance", () => table.label_mi,
        (row) => Text.fixed(table.label_mi[row])];
    }
    return found;
  }

  /* Where the top trigger of each row comes in the alphabet, NaN for none. */
  function alphabetical(run) {
    const used = [...new Set(run.table.trigger)].filter((id) => id >= 0);
    const { folded } = run;
    used.sort((a, b) => (folded[a] < folded[b] ? -1 : folded[a] > folded[b] ? 1 : a - b));
    const place = new Map(used.map((id, i) => [id, i]));
    return numbers(run, (row) => place.get(run.table.trigger[row]) ?? NaN);
  }

  /* Rows in rising (falling) order of their keys, equal ones as they are, NaN last: a float32 key, as an integer of the
     same order, and the row fit one float64, and those are sorted without a comparison in JavaScript. */
  function order(keys, falling) {
    const size = keys.length;
    const floats = new Float32Array(size);
    for (let row = 0; row < size; row++) floats[row] = keys[row] + 0;
    const bits = new Uint32Array(floats.buffer);
    const packed = new Float64Array(size);
    for (let row = 0; row < size; row++) {
      let key = bits[row] >>> 31 ? ~bits[row] >>> 0 : (bits[row] | 0x80000000) >>> 0;
      if (Number.isNaN(floats[row])) key = 0xffffffff;
      else if (falling) key = 0xfffffffe - key;
      packed[row] = key * 2097152 + row;
    }
    packed.sort();
    const rows = new Uint32Array(size);
    for (let i = 0; i < size; i++) rows[i] = packed[i] % 2097152;
    return rows;
  }
  return { of, order };
})();
