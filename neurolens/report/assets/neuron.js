"use strict";
/* Neuron: its page: class and why, triggers, contexts, labels, positions, what it writes, and its like. */
const Neuron = (() => {
  const { el } = Dom;
  const FEW = 8; // triggers that are shown at first
  const LIKE = 12; // neurons with the same triggers
  let wide = false; // contexts; kept from neuron to neuron

  const gram = (run, tokens) => {
    const joined = tokens.length > 1
      ? Text.flat(Text.pieces(Text.stream(tokens.map((id) => run.bytes(id))).join(""), false)) : null;
    return el("span", { class: "gram", title: joined }, tokens.map((id) => Dom.token(run, id)));
  };

  /* The triggers of each length as tables. */
  function triggerTables(run, triggers) {
    const projected = triggers.some((each) => each.rank >= 0);
    const tables = [];
    for (let n = 1; n <= run.meta.grams; n++) {
      const of = triggers.filter((each) => each.n === n);
      if (!of.length) continue;
      const columns = [[Classes.GRAMS[n - 1], "wide"], ["active of occurrences", "number"],
        ["rate, lower bound", "rate"], ["", "marks"],
        ...(projected ? [["projection", "number"], ["rank", "number"]] : [])];
      const cells = (each) => {
        return [gram(run, each.tokens), ...Verdict.cells(run, each),
          [each.covered ? el("span", { class: "badge detector", title: "active at nearly all of its occurrences" },
            "covered")
            : each.member ? el("span", { class: "badge none", title: "of the covering set" }, "member") : "",
          Verdict.isRare(run, each)
            ? el("span", { class: "badge none", title: "occurs too rarely to be sure" }, "rare") : ""],
          ...(projected ? [Text.signed(each.projection, 3), each.rank >= 0 ? Text.count(each.rank) : "–"] : [])];
      };
      const draw = (some) => Dom.table(`${Classes.GRAMS[n - 1]}s it is active on most`, columns, some.map(cells),
        { class: "plain triggers" });
      const holder = el("div", null, draw(of.slice(0, FEW)));
      const button = of.length > FEW
        ? el("button", { type: "button", class: "more",
          click: () => { holder.replaceChildren(draw(of)); button.remove(); } },
        `All ${of.length} ${Classes.GRAMS[n - 1]}s`) : null;
      tables.push(el("div", { class: "of-length" }, el("h3", null, Text.capital(`${Classes.GRAMS[n - 1]}s`)), holder,
        button));
    }
    return tables.length ? tables : el("p", { class: "quiet" }, run.has("ngrams") ? "None: it is active on no text."
      : "N-grams are not analysed.");
  }

  function contexts(run, text, arrays, local) {
    const holder = el("div");
    const button = el("button", { type: "button", class: "plain", "data-key": "w", "aria-pressed": "false",
      click: () => { wide = !wide; draw(); } });
    const draw = () => {
      holder.replaceChildren(Context.list(run, text, arrays, local, wide));
      button.setAttribute("aria-pressed", String(wide));
      button.replaceChildren(wide ? "Less text" : "More text", " ", el("kbd", null, "w"));
    };
    draw();
    const count = arrays.context_start[local + 1] - arrays.context_start[local];
    return el("section", null, el("header", null, el("h2", null, "In context"), count ? button : null),
      count ? el("p", { class: "quiet" }, `${Text.plural(count, "sampled activation")}; `, el("mark", null, "marked"),
        " tokens are active, the ",
        el("span", { class: "centre" }, el("mark", null, "sampled")),
          ` one most. ${run.meta.bitmaps ? "" : "Of the others only those known from samples are marked."}`)
            : el("p", { class: "quiet" }, "None."),
      holder);
  }

  function byLabel(run, row, arrays, local) {
    const { labels, label_totals: totals } = run.meta;
    if (labels.length < 2 || !arrays.label_on) return null;
    const on = arrays.label_on.subarray(local * labels.length, (local + 1) * labels.length);
    const rates = labels.map((_, i) => (totals[i] ? on[i] / totals[i] : 0));
    const top = Math.max(...rates, 1e-30);
    return Dom.section("By label",
      Dom.table("Frequency by label", [["label", ""], ["frequency", "rate"], ["active of tokens", "number"]],
      labels.map((label, i) => [Dom.name(label), [Dom.bar(rates[i] / top),
        el("span", { class: "value" }, Text.percent(rates[i]))],
        [Text.count(on[i]), el("span", { class: "quiet" }, ` of ${Text.count(totals[i])}`)]]), { class: "plain" }));
  }

  function byPosition(run, row, arrays, local) {
    if (!arrays.curve) return null;
    const fine = Verdict.rowOf(arrays.fine_row, local);
    const [values, top, at] = fine >= 0 ? [arrays.fine, arrays.fine_top, fine]
      : [arrays.curve, arrays.curve_top, local];
    const bins = values.shape[1];
    const y = Array.from(values.subarray(at * bins, (at + 1) * bins), (value) => (value / 255) * top[at]);
    const x = y.map((_, i) => Math.floor((i * run.meta.positions) / bins));
    const title = run.table.position_type?.[row] ? `By position: ${Verdict.shape(run, row)}` : "By position";
    const chart = { id: "position", title: "Frequency by position", kind: "line",
      x: { label: "position", values: x, log: false },
      y: { label: "frequency", percent: true, log: false }, series: [{ name: "frequency", run: run.number, x, y }] };
    return Dom.section(title, Chart.figure(chart, () => "", { height: 150, full: false }));
  }

  function writes(run, row, triggers, arrays, local) {
    if (!run.has("updates")) return null;
    const at = Verdict.rowOf(arrays.update_row, local);
    if (at < 0) return Dom.section("What it writes",
      el("p", { class: "quiet" }, "Its value vector is not projected in this run."));
    const own = new Set(triggers.flatMap((each) => each.tokens));
    const width = arrays.promoted.shape[1];
    const list = (name) => {
      const ids = arrays[name].subarray(at * width, (at + 1) * width);
      const sizes = arrays[`${name}_projection`].subarray(at * width, (at + 1) * width);
      return el("div", null, el("h3", null, Text.capital(name)),
        el("ol", { class: "written" }, Array.from(ids, (id, i) => (id < 0 ? null
        : el("li", { class: own.has(id) ? "own" : null, title: own.has(id) ? "one of its triggers" : null },
          Dom.token(run, id),
          own.has(id) ? el("span", { class: "badge detector" }, "trigger") : null,
            el("span", { class: "value" }, Text.signed(sizes[i])))))));
    };
    return Dom.section("What it writes",
      el("p", { class: "quiet" }, "Tokens that its value vector promotes and suppresses most."),
        el("div", { class: "two" }, list("promoted"), list("suppressed")));
  }

  /* Rows that share triggers: [[row, tokens], …], most alike first. A token counts by how rare it is among neurons,
     and by this one's activations on it. */
  function like(run, row, triggers) {
    const { search_start: start, search_token: token } = run.table;
    if (!token) return [];
    const weight = (id) => Math.log(1 + run.size / run.usersOf(id).length);
    const tokens = triggers.filter((each) => each.n === 1);
    const total = tokens.reduce((sum, each) => sum + each.on, 1);
    const shares = new Map(tokens.map((each) => [each.tokens[0], each.on / total]));
    const value = (id) => weight(id) * (0.02 + (shares.get(id) ?? 0));
    const own = [...token.subarray(start[row], start[row + 1])].sort((a, b) => value(b) - value(a) || a - b);
    const score = new Map();
    for (const id of own) {
      const each = value(id);
      for (const other of run.usersOf(id)) if (other !== row) score.set(other, (score.get(other) ?? 0) + each);
    }
    const norm = (of) => Math.sqrt(token.subarray(start[of], start[of + 1]).reduce((sum, id) => sum + weight(id), 0));
    const first = [...score].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0,
      200); // of these the lengths decide, too
    return first.map(([other, shared]) => [other, shared / norm(other)]).sort((a, b) => b[1] - a[1]
      || a[0] - b[0]).slice(0, LIKE)
      .map(([other]) => [other, own.filter((id) => token.subarray(start[other], start[other + 1]).includes(id))]);
  }

  /* Links to the neighbours in the table's order; data-key: the keys that follow them. */
  function neighbours(run, row) {
    const view = Table.of(run);
    const inside = view.place(row) >= 0;
    const [rows, place] = inside ? [view.rows, view.place(row)] : [null, row];
    const size = inside ? rows.length : run.size;
    const link = (at, key, text) =>
      (at >= 0 && at < size ? el("a", { class: "step", href: run.href(run.name(inside ? rows[at] : at)),
        "data-key": key, rel: key === "j" ? "next" : "prev" }, text(run.name(inside ? rows[at] : at)))
      : el("span", { class: "step", "aria-disabled": "true" }, text("")));
    return el("nav", { class: "steps", "aria-label": "Neighbours in the table" },
      link(place - 1, "k", (name) => `← ${name}`),
      el("a", { href: run.href(inside ? view.route : "neurons") }, `${Text.count(place + 1)} of ${Text.count(size)}`),
        link(place + 1, "j", (name) => `${name} →`));
  }

  /* The page of a row of an open run. */
  async function view(run, row) {
    const { meta, table } = run;
    const [[arrays, local], text] = await Promise.all([run.details(row), run.text()]);
    const triggers = run.triggers(arrays, local);
    const [low, high] = [table.frequency_low[row], table.frequency_high[row]];
    const dead = table.activations[row] === 0;
    const others = like(run, row, triggers);
    return el("article", { class: "neuron" },
      el("header", { class: "head" },
        el("div", null, el("p", { class: "quiet over" }, `layer ${table.layer[row]}, neuron ${table.neuron[row]} · `,
          Dom.name(meta.name)),
        el("h1", { tabindex: -1 }, run.name(row), " ", el("span", { class: "badges" }, Classes.badges(run, row)))),
          neighbours(run, row)),
      el("p", { class: "lead" }, dead ? `Silent on all ${Text.count(meta.n_tokens)} tokens.`
        : ["Active on ", el("b", null, Text.percent(table.frequency[row])), " of tokens",
        Number.isNaN(low) || Number.isNaN(high) ? "" : ` (${Text.percent(low)} – ${Text.percent(high)})`,
          `: ${Text.count(table.activations[row])} of ${Text.count(meta.n_tokens)}`]),
      el("div", { class: "columns" },
        el("div", { class: "main" }, Dom.section("Triggers", triggerTables(run, triggers)),
          contexts(run, text, arrays, local),
          others.length ? Dom.section("Others with the same triggers",
            Dom.table("Neurons with the same triggers",
              [["neuron", ""], ["classes", "marks"], ["frequency", "number"], ["in common", "shared"]],
            others.map(([other, shared]) =>
              [el("a", { href: run.href(run.name(other)) }, run.name(other)), Classes.badges(run, other, true),
                Text.percent(table.frequency[other]),
              el("span", { class: "gram spaced" }, shared.slice(0, 4).map((id) => Dom.token(run, id)), shared.length > 4
                ? ` +${shared.length - 4}` : "")]), { class: "plain" })) : null),
        el("aside", null, Dom.section("Why", Verdict.why(run, row, triggers, arrays, local)),
          byPosition(run, row, arrays, local), byLabel(run, row, arrays, local),
            writes(run, row, triggers, arrays, local))));
  }
  return { view, gram };
})();
