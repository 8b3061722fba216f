"use strict";
/* Token: which neurons have it in a trigger, and which of them detect it. */
const Token = (() => {
  const { el } = Dom;
  const MOST = 60; // triggers listed at first

  /* The page of a token of an open run. */
  async function view(run, id) {
    if (!(id >= 0 && id < run.vocabulary)) return Dom.message(`There is no token ${id}`,
      `The vocabulary has ${Text.plural(run.vocabulary, "token")}, from 0 on.`);
    const rows = [...run.usersOf(id)];
    const found = (await Promise.all(rows.map(async (row) => {
      const [arrays, local] = await run.details(row);
      return run.triggers(arrays, local).filter((each) => each.tokens.includes(id)).map((each) => ({ row, ...each,
        detects: each.covered && run.has_flag(row, `${Classes.COLUMNS[each.n - 1]}_detector`) }));
    }))).flat();
    found.sort((a, b) => b.detects - a.detects || b.on - a.on || a.row - b.row);
    const detecting = new Set(found.filter((each) => each.detects).map((each) => each.row));
    const layers = run.meta.layers;
    const counts = (test) => layers.map((layer) =>
      rows.filter((row) => run.table.layer[row] === layer && test(row)).length);
    const chart = { id: "layers", title: "Neurons by layer", kind: "stack", x: { label: "layer", values: layers },
      y: { label: "neurons" },
      series: [{ name: "detect it", colour: 2, run: run.number, x: layers, y: counts((row) => detecting.has(row)) },
        { name: "are often active on it", colour: 5, run: run.number, x: layers,
          y: counts((row) => !detecting.has(row)) }] };
    const cells = (each) => [
      el("a", { href: run.href(run.name(each.row)), class: "id" }, run.name(each.row)),
      each.detects ? el("span", { class: `badge detector${Verdict.isRare(run, each) ? "" : " sure"}` }, "detects") : "",
      Neuron.gram(run, each.tokens), ...Verdict.cells(run, each), Classes.badges(run, each.row, true)];
    const columns = [["neuron", ""], ["", ""], ["trigger", "some"], ["active of occurrences", "number"],
      ["rate, lower bound", "rate"], ["classes", "marks"]];
    const draw = (some) => Dom.table("Neurons with this token in a trigger", columns, some.map(cells),
      { class: "plain" });
    const holder = el("div", null, draw(found.slice(0, MOST)));
    const more = found.length > MOST
      ? el("button", { type: "button", class: "more",
        click: () => { holder.replaceChildren(draw(found)); more.remove(); } }, `All ${Text.count(found.length)}`)
          : null;
    return el("article", { class: "token-view" },
      el("p", { class: "quiet over" }, `token ${id} · `, Dom.name(run.meta.name)),
        el("h1", { tabindex: -1 }, Dom.token(run, id, { link: false, whole: true })),
      el("p", { class: "lead" }, rows.length
        ? [el("b", null, Text.plural(rows.length, "neuron")),
          ` ${rows.length === 1 ? "has" : "have"} it in a trigger; `, el("b", null, Text.count(detecting.size)),
            ` ${detecting.size === 1 ? "detects" : "detect"} it.`]
        : run.has("ngrams") ? "No neuron of this page has it in a trigger that is shown."
          : "N-grams are not analysed."),
      Overview.limits(run), rows.length
        ? [Dom.section("By layer", Chart.figure(chart, () => "", { height: 150, full: false })),
          Dom.section("Neurons", holder, more)] : null);
  }

  /* Tokens by their text, best first: equal, then beginning, then shorter. At most `most`. */
  function find(run, query, most = 40) {
    const match = run.matching(query);
    const part = query.replaceAll("␣", " ").toLowerCase();
    const found = [];
    const { folded } = run;
    match.forEach((yes, id) => yes && found.push(id));
    const rank = (id) => { const text = folded[id].trim(); return text === part.trim() ? 0
      : text.startsWith(part.trim()) ? 1 : 2; };
    const keyed = found.map((id) => [rank(id), folded[id].length, -run.usersOf(id).length, id]);
    keyed.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3]);
    return [keyed.slice(0, most).map((each) => each[3]), found.length];
  }
  return { view, find };
})();
