"use strict";
/* Overview: what the runs are, their classes by layer, and all figures. Takes META alone: no blob is opened. */
const Overview = (() => {
  const { el } = Dom;

  const limits = (run) => (run.meta.limits.length
    ? el("div", { class: "limits", role: "note" }, run.meta.limits.map((limit) => el("p", null, Text.name(limit))))
      : null);

  /* Facts: one column a run. */
  function facts(runs) {
    const names = [...new Set(runs.flatMap((run) => run.meta.facts.map(([name]) => name)))];
    const value = (run, name) => run.meta.facts.find(([each]) => each === name)?.[1];
    if (runs.length === 1) {
      return el("dl", { class: "facts" }, names.map((name) =>
        el("div", null, el("dt", null, Text.name(name)), el("dd", null, Dom.name(value(runs[0], name))))));
    }
    const columns = [["", ""], ...runs.map((run) => [Dom.name(run.meta.name), ""])];
    return Dom.table("Facts of the runs", columns, names.map((name) =>
      [Text.name(name), ...runs.map((run) => Dom.name(value(run, name) ?? "–"))]), { class: "plain facts-table" });
  }

  /* Neurons by class and layer: each number leads to the table of those neurons. */
  function classes(run) {
    const { meta } = run;
    const ids = Object.keys(meta.totals).filter((id) => meta.by_layer[id]);
    const size = meta.neurons;
    const all = size * meta.layers.length;
    if (!ids.length) return null;
    const link = (route, number) =>
      (number ? el("a", { href: run.href(`neurons?${new URLSearchParams(route)}`) }, Text.count(number)) : "0");
    const rows = ids.map((id) => [
      el("bdi", null, Classes.describe(run, id)[0]), link({ class: id }, meta.totals[id]),
        Text.percent(meta.totals[id] / all),
      ...meta.by_layer[id].map((number, i) =>
        el("span", { class: "heat", style: { "--p": `${(100 * Math.sqrt(number / size)).toFixed(1)}%` },
        title: `layer ${meta.layers[i]}: ${Text.percent(number / size)}` },
          link({ class: id, layer: meta.layers[i] }, number)))]);
    const columns = [["class", "sticky"], ["neurons", "number"], ["share", "number"],
      ...meta.layers.map((layer) => [`L${layer}`, "number cell"])];
    return Dom.table(`Neurons by class and layer: ${Text.name(meta.name)}`, columns, rows, { class: "plain classes" });
  }

  function missing(run) {
    const words = { dead: "dead neurons", ngrams: "n-grams", positions: "positions", contrast: "labels",
      updates: "what neurons write" };
    const absent = Object.keys(words).filter((part) => !run.has(part));
    return absent.length ? el("p", { class: "quiet" }, `Not analysed: ${absent.map((part) => words[part]).join(", ")}.`)
      : null;
  }

  function view(page) {
    const { runs } = page;
    const names = (i) => Text.name(runs[i]?.meta.name ?? `run ${i}`);
    const follow = (chart) => (chart.x.label !== "layer" ? null : (value, series) => {
      const each = series.find(({ rows }) => rows);
      const filters = each && new URLSearchParams({ class: each.rows.class, layer: value });
      if (each) location.hash = runs[each.run].href(`neurons?${filters}`);
    });
    const figures = page.charts.map((chart) => Chart.figure(chart, names, { follow: follow(chart) }));
    return el("div", { class: "overview" },
      el("h1", { tabindex: -1 }, Dom.name(page.title)),
      el("p", { class: "lead" }, runs.map((run, i) => [i ? " · " : "", el("a", { href: run.href("neurons") },
        Text.plural(run.meta.rows, "neuron"), runs.length > 1 ? [" of ", Dom.name(run.meta.name)] : " to look at")])),
      facts(runs),
      runs.map((run) => el("section", { class: "counts" },
        el("h2", null, "Neurons by class and layer", runs.length > 1 ? [": ", Dom.name(run.meta.name)] : ""),
          limits(run), missing(run), classes(run))),
      figures.length ? Dom.section("Figures", el("div", { class: "figures" }, figures)) : null,
      el("footer", { class: "foot" },
        `Written by neurolens ${Text.name(page.version)}. Everything is in this file: it asks for nothing else.`));
  }
  return { view, limits };
})();
