"use strict";
/* Chart: a CHART as inline SVG, with the values at the pointer or the arrow keys, and its numbers as a table. */
const Chart = (() => {
  const { el } = Dom;
  const MANY = 8; // series of one panel; more are drawn as small multiples
  const COLOURS = 8;
  const RAMP = 10; // the first colour of ordered kinds, such as numbers from … to

  const format = (axis, value) => (value === null || value === undefined ? "–"
    : axis.percent ? Text.percent(value) : Number.isInteger(value) ? Text.count(value) : Text.decimal(value));

  /* Series names may begin with their run's name, which is shown otherwise here. */
  function bare(chart, names) {
    const strip = (each) => {
      const name = Text.name(each.name);
      const run = names(each.run);
      return run && name === run ? "" : name.startsWith(`${run} · `) ? name.slice(run.length + 3) : name;
    };
    return { ...chart, series: chart.series.map((each) =>
      ({ ...each, name: strip(each), x: each.x ?? chart.x.values })) };
  }

  /* Panels of a chart: [{title, series}], each series with `colour` and `short`, what it is called in there. */
  function panels(chart, names) {
    const kinds = [...new Set(chart.series.map((each) => each.name))];
    const runs = [...new Set(chart.series.map((each) => each.run))];
    const ordered = chart.kind === "stack" && kinds.length > 2 && kinds.slice(0, -1).every((name) => /^\d/.test(name));
    const look = (each, by, short) => ({ ...each, short,
      colour: each.colour ?? (by === "run" ? runs.indexOf(each.run) : kinds.indexOf(each.name)) % COLOURS
        + (ordered ? RAMP : 0) });
    const of = (test, by, title, short) =>
      ({ title, series: chart.series.filter(test).map((each) => look(each, by, short(each))) });
    if (chart.kind === "stack") {
      const title = (run) => (runs.length > 1 ? names(run) : "");
      return runs.map((run) => of((each) => each.run === run, "name", title(run), (each) => Text.name(each.name)));
    }
    if (runs.length > 1 && kinds.length > 1) {
      return kinds.map((kind) => of((each) => each.name === kind, "run", Text.name(kind), (each) => names(each.run)));
    }
    if (chart.series.length > MANY && runs.length === 1) {
      return kinds.map((kind) => ({ ...of((each) => each.name === kind, "run", Text.name(kind), () => ""),
        alone: true }));
    }
    if (runs.length > 1) return [of(() => true, "run", "", (each) => names(each.run))];
    return [of(() => true, "name", "", (each) => Text.name(each.name))];
  }

  /* Least and greatest y that the panels must have room for; 0 is one of them. */
  function extent(chart, shown) {
    let [low, high] = [0, 0];
    for (const { series } of shown) {
      const sums = new Map();
      for (const each of series) {
        each.y.forEach((y, i) => {
          const top = chart.kind === "stack" ? (sums.get(each.x[i]) ?? 0) + (y ?? 0) : y;
          sums.set(each.x[i], top);
          for (const value of [top, each.low?.[i], each.high?.[i]]) {
            if (!Number.isFinite(value ?? NaN)) continue;
            low = Math.min(low, value);
            high = Math.max(high, value);
          }
        });
      }
    }
    return [low, high > low ? high : low + 1];
  }

  /* The numbers: a row for each x, a column for each series. */
  function numbers(chart, names) {
    const several = new Set(chart.series.map((each) => each.run)).size > 1;
    const values = Panel.union(chart.series);
    const columns = [[Text.name(chart.x.label), ""], ...chart.series.map((each) =>
      [`${several ? `${names(each.run)}: ` : ""}${Text.name(each.name)}`, "number"])];
    const rows = values.map((value) => [typeof value === "string" ? Text.name(value) : Text.count(value),
      ...chart.series.map((each) => reading(chart, each, value))]);
    return Dom.table(`${Text.name(chart.title)} (${Text.name(chart.y.label)})`, columns, rows, { class: "plain" });
  }
  function reading(chart, each, value) {
    const i = each.x.indexOf(value);
    if (i < 0 || each.y[i] === null || each.y[i] === undefined) return "–";
    const [low, high] = [each.low?.[i] ?? null, each.high?.[i] ?? null];
    return format(chart.y, each.y[i])
      + (low === null || high === null ? "" : ` (${format(chart.y, low)} – ${format(chart.y, high)})`);
  }

  /* The figure of a chart. names(i): what run i is called; follow(x, series): what a click on x does, if anything;
     `height` in pixels; without `full`, no heading and no table of numbers. */
  function figure(told, names, { follow = null, height = 210, full = true } = {}) {
    const chart = bare(told, names);
    const shown = panels(chart, names);
    const span = extent(chart, shown);
    const several = shown.length > 1;
    const tip = el("div", { class: "tip", role: "status", hidden: true });
    const body = el("div", { class: `panels${several ? " several" : ""}` });
    const links = follow && shown.some(({ series }) => series.some((each) => each.rows));

    function probe(value, x, root) {
      tip.hidden = value === null;
      if (value === null) return;
      const { series } = shown[[...body.children].indexOf(root)];
      const lines = (chart.kind === "stack" ? [...series].reverse() : series).map((each) =>
        el("tr", null, el("td", null, el("i", { class: `swatch s${each.colour}` }), " ",
          el("bdi", null, each.short || Text.name(each.name))),
          el("td", { class: "number" }, reading(chart, each, value))));
      tip.replaceChildren(el("b", null,
        `${Text.name(chart.x.label)} ${typeof value === "string" ? Text.name(value) : Text.count(value)}`),
        el("table", { role: "presentation" }, lines), links ? el("small", null, "click or Enter: these neurons") : "");
      const box = root.getBoundingClientRect();
      const frame = body.getBoundingClientRect();
      const at = box.left - frame.left + x * box.width;
      tip.style.top = `${box.top - frame.top + 8}px`;
      const room = at + tip.offsetWidth + 16 < frame.width;
      tip.style.left = `${room ? at + 14 : Math.max(0, at - tip.offsetWidth - 14)}px`;
    }
    function draw() {
      const wide = body.clientWidth;
      if (!wide) return;
      const most = shown[0].alone ? 4 : 3;
      const fit = Math.floor(wide / (shown[0].alone ? 170 : 230));
      const columns = several ? Math.max(1, Math.min(most, shown.length, fit)) : 1;
      const width = Math.floor((wide - 12 * (columns - 1)) / columns);
      const tall = several ? (shown[0].alone ? 130 : 170) : height;
      body.replaceChildren(...shown.map((each) => Panel.draw(chart, each, span, width, tall, probe, follow)));
    }
    let last = 0;
    new ResizeObserver(() => body.clientWidth !== last && (last = body.clientWidth) && draw()).observe(body);

    const seen = new Map();
    for (const { series } of shown) for (const each of series) if (each.short) seen.set(each.short, each);
    const swatch = (each) => el("i", { class: `swatch s${each.colour}${each.dash && !several ? " dash" : ""}` });
    const legend = seen.size > 1 ? el("div", { class: "legend" },
      [...seen].map(([name, each]) => el("span", null, swatch(each), el("bdi", null, name)))) : null;
    const frame = el("div", { class: "frame" }, body, tip);
    if (!full) return el("figure", { class: "chart bare" }, legend, frame);
    const unfold = () => details.open && details.children.length < 2 && details.append(numbers(chart, names));
    const details = el("details", { class: "numbers", toggle: unfold },
      el("summary", null, "Numbers"));
    return el("figure", { class: `chart${several ? " wide" : ""}`, "data-chart": chart.id },
      el("figcaption", null, el("h3", null, Text.name(chart.title)),
      el("p", { class: "what" }, Text.name(chart.y.label), chart.y.percent ? " (%)" : "",
        el("span", { class: "source" }, Text.name(chart.source)))),
    legend, frame, chart.note ? el("p", { class: "note" }, Text.name(chart.note)) : null, details);
  }
  return { figure };
})();
