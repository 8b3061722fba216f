"use strict";
/* Context: tokens around those that a neuron is active on, as text. */
const Context = (() => {
  const { el } = Dom;
  const NARROW = [12, 8]; // tokens before and after

  /* Tokens of a window around token `at`, clipped to its passage and sequence: {first, ids, texts, lead, tail}, null
     without a passage. The character at either end may be cut: decoding begins with the passage. */
  function around(run, text, at, before, after) {
    const { passage_first: first, passage_at: place, passage_token: token } = text;
    let [low, high] = [0, first.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (first[middle] <= at) low = middle + 1;
      else high = middle;
    }
    const passage = low - 1;
    const length = passage < 0 ? 0 : place[passage + 1] - place[passage];
    if (passage < 0 || at >= first[passage] + length) return null;
    const sequence = Math.floor(at / run.meta.positions) * run.meta.positions;
    const [from, to] = [Math.max(first[passage], sequence),
      Math.min(first[passage] + length, sequence + run.meta.positions)];
    const [begin, end] = [Math.max(from, at - before), Math.min(to, at + after + 1)];
    const shift = place[passage] - first[passage];
    const ids = Array.from(token.subarray(from + shift, end + shift));
    const texts = Text.stream(ids.map((id) => run.bytes(id)));
    return { first: begin, ids: ids.slice(begin - from), texts: texts.slice(begin - from), lead: begin > sequence,
      tail: end < sequence + run.meta.positions };
  }

  /* Whether bit i of context k is set. */
  const bit = (mask, k, i) => i >= 0 && i < 64 && ((mask[2 * k + (i >> 5)] >>> (i & 31)) & 1) === 1;

  /* Context k of a layer's arrays as an element: the token itself in the middle, active ones marked. */
  function line(run, text, arrays, k, wide) {
    const at = arrays.context_token[k];
    const [most, rest] = run.meta.window;
    const { positions, labels } = run.meta;
    const sequence = Math.floor(at / positions);
    const label = labels.length > 1 && text.label.length > sequence ? labels[text.label[sequence]] : null;
    const where = el("span", { class: "where" }, label === null || label === undefined ? null
      : el("span", { class: "badge none" }, Dom.name(label)), " ",
      el("span", { title: `sequence ${sequence}, position ${at % positions}` },
        `${Text.count(sequence)}:${at % positions}`));
    const [before, after] = wide ? [most, rest] : [Math.min(NARROW[0], most), Math.min(NARROW[1], rest)];
    const found = around(run, text, at, before, after);
    if (!found) return el("li", { class: "context" }, where,
      el("p", { class: "gone" }, "This passage is not in the page."));
    const span = (i) => {
      const index = found.first + i;
      const active = bit(arrays.context_mask, k, index - at + most);
      const string = found.texts[i];
      const content = string ? Dom.nodes(Text.pieces(string, false)) : [];
      if (!active && index !== at) return content;
      const shown = content.length ? content : el("span", { class: "mark" }, "▯");
      const bytes = string ? ""
        : `${Text.flat(Text.ofBytes(run.bytes(found.ids[i]))) || "empty"}: its character ends later; `;
      const title = `${bytes}token ${found.ids[i]}, position ${index % positions}`;
      if (index !== at) return el("mark", { "data-at": index, title }, shown);
      return el("a", { class: "centre", "data-at": index, title, href: run.href(`token/${found.ids[i]}`) },
        el("mark", null, shown));
    };
    const all = found.ids.map((_, i) => span(i));
    const centre = at - found.first;
    const dots = (yes) => (yes ? el("span", { class: "mark" }, "…") : null);
    return el("li", { class: "context" }, where, el("p", { class: wide ? "wide" : "narrow", dir: "ltr" },
      el("bdi", { class: "before" }, el("span", null, dots(found.lead), all.slice(0, centre))),
      el("bdi", { class: "after" }, all.slice(centre), dots(found.tail))));
  }

  /* The contexts of a row, with a button that widens them; `wide` is kept by the caller. */
  function list(run, text, arrays, local, wide) {
    const [start, end] = arrays.context_start ? arrays.context_start.subarray(local, local + 2) : [0, 0];
    const lines = Array.from({ length: end - start }, (_, i) => line(run, text, arrays, start + i, wide));
    return el("ol", { class: "contexts" }, lines);
  }
  return { list, around };
})();
