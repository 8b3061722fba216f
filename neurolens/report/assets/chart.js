"use strict";
/* Chart: a CHART as inline SVG, with the values at the pointer or the arrow keys, and its numbers as a table. */
const Chart = (() => {
  const { el, svg } = Dom;
  const MANY = 8; // series of one panel; more are drawn as small multiples
  const COLOURS = 8;

  const round = (value) => Math.round(value * 10) / 10;
  const format = (axis, value) => (value === null || value === undefined ? "–"
    : axis.percent ? Text.percent(value) : Number.isInteger(value) ? Text.count(value) : Text.decimal(value));

  /* At most about `most` round numbers that span low … high; whole ones if asked for. */
  function ticks(low, high, most, whole = false) {
    const raw = Math.max((high - low || 1) / most, whole ? 1 : 0);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * (whole ? [1, 2, 5, 10] : [1, 2, 2.5, 5, 10]).find((each) => each * power >= raw * 0.999);
    const found = [];
    const last = high + step * 1e-9;
    for (let k = Math.ceil(low / step - 1e-9); k * step <= last; k++) found.push(Number((k * step).toPrecision(12)));
    return [found, step];
  }
  const powers = (low, high) => {
    const found = [];
    for (let k = Math.ceil(Math.log10(low) - 1e-9); 10 ** k <= high * (1 + 1e-9); k++) found.push(10 ** k);
    return found;
  };
  function short(value) {
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= size * (unit === "k" ? 10 : 1)) return `${Number((value / size).toPrecision(3))}${unit}`;
    }
    return Number.isInteger(value) ? Text.count(value) : Text.decimal(value);
  }

  /* Series names may begin with their run's name, which is shown otherwise here. */
  function bare(chart, names) {
    const strip = (each) => {
      const name = Text.name(each.name);
      const run = names(each.run);
      return run && name === run ? "" : name.startsWith(`${run} · `) ? name.slice(run.length + 3) : name;
    };
    return { ...chart, series: chart.series.map((each) => ({ ...each, name: strip(each) })) };
  }
  const union = (chart, series) => {
    const values = [...new Set(series.flatMap((each) => each.x ?? chart.x.values))];
    return values.some((value) => typeof value === "string") ? values : values.sort((a, b) => a - b);
  };

  /* Panels of a chart: [{title, series}], each series with `colour` and `label`. */
  function panels(chart, names) {
    const kinds = [...new Set(chart.series.map((each) => each.name))];
    const runs = [...new Set(chart.series.map((each) => each.run))];
    const label = (each) => (runs.length > 1 ? (kinds.length > 1 ? `${names(each.run)}: ` : "") : "")
      + (runs.length > 1 && kinds.length === 1 ? names(each.run) : Text.name(each.name));
    const look = (each, by, short) => ({ ...each, label: label(each), short,
      dash: each.dash && by === "name",
      colour: each.colour ?? (by === "run" ? runs.indexOf(each.run) : kinds.indexOf(each.name)) % COLOURS });
    const of = (test, by, title, short) =>
      ({ title, series: chart.series.filter(test).map((each) => look(each, by, short(each))) });
    if (chart.kind === "stack" || chart.kind === "heat") {
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

  /* Values of y that a chart must have room for. */
  function extent(chart, shown) {
    let [low, high] = [chart.y.log ? Infinity : 0, -Infinity];
    for (const { series } of shown) {
      const sums = [];
      for (const each of series) {
        each.y.forEach((value, i) => {
          if (chart.kind === "stack") value = sums[i] = (sums[i] ?? 0) + (value ?? 0);
          for (const one of [value, each.low?.[i], each.high?.[i]]) {
            if (one === null || one === undefined || (chart.y.log && one <= 0)) continue;
            low = Math.min(low, one);
            high = Math.max(high, one);
          }
        });
      }
    }
    if (high === -Infinity) return [0, 1];
    if (high <= low) high = low + (Math.abs(low) || 1);
    return [low, high];
  }

  /* One panel as SVG of a width; `probe(i)` is told which x is pointed at, null for none. */
  function panel(chart, { title, series }, [low, high], width, height, probe, follow) {
    const bands = chart.kind !== "line";
    const values = union(chart, series);
    const named = values.some((value) => typeof value === "string");
    const heat = chart.kind === "heat";
    const [steps, step] = chart.y.log ? [powers(low, high), 0] : ticks(low, high, height > 130 ? 4 : 2,
      !chart.y.percent && chart.series.every((each) =>
        each.y.every((value) => value === null || Number.isInteger(value))));
    if (!chart.y.log && !heat) {
      const above = step * Math.ceil(high / step - 1e-9);
      if (high >= 0.98 * above) high = above;
      low = Math.min(low, step * Math.floor(low / step + 1e-9));
    }
    const marks = heat ? series.map((each) => each.short)
      : steps.map((value) => (chart.y.percent ? Text.percent(value) : short(value)));
    const longest = Math.max(...marks.map((mark) => mark.length), 2);
    const [left, right, top, bottom] = [Math.min(110, 12 + 6.6 * longest), 12, title ? 24 : 10, 34];
    const [w, h] = [Math.max(20, width - left - right), height - top - bottom];
    const slot = w / Math.max(1, values.length);
    let X;
    if (bands || named) X = (value) => left + (values.indexOf(value) + 0.5) * slot;
    else {
      const log = chart.x.log && values[0] > 0;
      const scale = log ? Math.log : Number;
      const [a, b] = [scale(values[0]), scale(values.at(-1))];
      X = (value) => left + (b > a ? (scale(value) - a) / (b - a) : 0.5) * w;
    }
    const place = chart.y.log ? Math.log : Number;
    const [from, to] = [place(low), place(high)];
    const Y = (value) => top + h - (place(value) - from) / (to - from || 1) * h;
    const base = chart.y.log ? top + h : Y(Math.max(0, low));
    const at = (each, i) => X((each.x ?? chart.x.values)[i]);
    const parts = [];
    const text = (x, y, string, attributes) =>
      parts.push(svg("text", { x: round(x), y: round(y), ...attributes }, string));

    if (title) text(left, 13, title.length > w / 6 ? `${title.slice(0, Math.floor(w / 6))}…` : title,
      { class: "panel-title" });
    if (heat) {
      const row = h / series.length;
      const every = Math.ceil(11 / row);
      series.forEach((each, k) => {
        if (k % every === 0) text(left - 6, top + (k + 0.5) * row + 4, each.short.slice(0, 14),
          { "text-anchor": "end" });
        each.y.forEach((value, i) => {
          if (value === null) return;
          const strength = high > low ? (value - low) / (high - low) : 0;
          parts.push(svg("rect", { x: round(left + i * slot), y: round(top + k * row), width: round(slot + 0.3),
            height: round(row + 0.3),
            class: "cell", style: { "--p": `${(100 * strength).toFixed(1)}%` } }));
        });
      });
    } else {
      steps.forEach((value, i) => {
        parts.push(svg("line", { x1: left, x2: left + w, y1: round(Y(value)), y2: round(Y(value)), class: "grid" }));
        text(left - 6, Y(value) + 4, marks[i], { "text-anchor": "end" });
      });
    }
    const room = Math.max(1, Math.floor(w / (named ? 64 : 44)));
    const shown = chart.x.log && !bands && !named ? powers(values[0], values.at(-1))
      : bands || named ? values.filter((_, i) => i % Math.ceil(values.length / room) === 0)
        : ticks(values[0], values.at(-1), Math.min(room, 8))[0].filter((each) => !values.every(Number.isInteger)
          || Number.isInteger(each));
    for (const value of shown) {
      const words = typeof value === "string" ? Text.name(value) : short(value);
      const most = Math.max(4, Math.floor((bands || named ? slot * Math.ceil(values.length / room) : 60) / 6.5));
      text(X(value), top + h + 15, words.length > most ? `${words.slice(0, most - 1)}…` : words,
        { "text-anchor": "middle" });
    }
    text(left + w, top + h + 30, Text.name(chart.x.label), { "text-anchor": "end", class: "axis" });
    parts.push(svg("line", { x1: left, x2: left + w, y1: round(base), y2: round(base), class: "base" }));

    const sums = values.map(() => 0);
    series.forEach((each, k) => {
      const style = { class: `s${each.colour}${each.dash ? " dash" : ""}` };
      const drawn = [];
      if (chart.kind === "line") {
        let [line, area] = ["", ""];
        for (let i = 0, open = false; i < each.y.length; i++) {
          if (each.y[i] === null || (chart.y.log && each.y[i] <= 0)) open = false;
          else {
            line += `${open ? "L" : "M"}${round(at(each, i))},${round(Y(each.y[i]))}`;
            open = true;
          }
        }
        const spread = each.y.map((_, i) => i).filter((i) => Number.isFinite(each.low?.[i] ?? NaN)
          && Number.isFinite(each.high?.[i] ?? NaN)
          && (!chart.y.log || each.low[i] > 0));
        if (spread.length > 1) {
          area = spread.map((i, m) => `${m ? "L" : "M"}${round(at(each, i))},${round(Y(each.high[i]))}`).join("")
            + spread.reverse().map((i) => `L${round(at(each, i))},${round(Y(each.low[i]))}`).join("");
          drawn.push(svg("path", { d: `${area}Z`, class: "band" }));
        }
        drawn.push(svg("path", { d: line, class: "line" }));
        if (each.y.length <= 48) {
          each.y.forEach((value, i) => value !== null && (!chart.y.log || value > 0)
            && drawn.push(svg("circle", { cx: round(at(each, i)), cy: round(Y(value)), r: 2.3 })));
        }
      } else if (!heat) {
        const stack = chart.kind === "stack";
        const inner = Math.min(slot * 0.76, stack ? 46 : 30 * series.length);
        const thick = Math.max(1, stack ? inner : inner / series.length - 1);
        each.y.forEach((value, i) => {
          if (value === null) return;
          const x = at(each, i) - inner / 2 + (stack ? 0 : k * inner / series.length);
          const [a, b] = stack ? [sums[i], sums[i] + value] : [null, value];
          const [y0, y1] = [a === null || a <= 0 ? base : Y(a), chart.y.log && b <= 0 ? base : Y(b)];
          if (stack) sums[i] += value;
          if (Math.abs(y0 - y1) > 0.05) drawn.push(svg("rect",
            { x: round(x), y: round(Math.min(y0, y1)), width: round(thick),
              height: round(Math.max(0.7, Math.abs(y0 - y1))) }));
          if (!stack && Number.isFinite(each.low?.[i] ?? NaN) && thick > 3) {
            const [m, up, down] = [x + thick / 2, Y(each.high[i]), Y(each.low[i])].map(round);
            drawn.push(svg("path", { d: `M${m},${up}V${down}`, class: "whisker" }));
          }
        });
      }
      parts.push(svg("g", style, drawn));
    });

    const cross = svg("line", { y1: top, y2: top + h, class: "cross", visibility: "hidden" });
    const names = [Text.name(chart.title), title, Text.name(chart.y.label)].filter(Boolean);
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: 0,
      "aria-label": `${names.join(": ")} by ${Text.name(chart.x.label)}. Arrow keys read the values.` }, parts, cross);
    let current = null;
    const point = (i, sent = true) => {
      current = i;
      cross.setAttribute("visibility", i === null ? "hidden" : "visible");
      if (i !== null) {
        cross.setAttribute("x1", round(X(values[i])));
        cross.setAttribute("x2", round(X(values[i])));
      }
      if (sent) probe(i === null ? null : values[i], i === null ? 0 : X(values[i]) / width, root);
    };
    const nearest = (event) => {
      const box = root.getBoundingClientRect();
      const x = (event.clientX - box.left) * (width / (box.width || width));
      let best = 0;
      values.forEach((value, i) => Math.abs(X(value) - x) < Math.abs(X(values[best]) - x) && (best = i));
      return values.length ? best : null;
    };
    let touched = false; // a finger that reads a value does not follow it
    for (const kind of ["pointermove", "pointerdown"]) {
      root.addEventListener(kind, (event) => {
        touched = event.pointerType === "touch";
        point(nearest(event));
      });
    }
    root.addEventListener("pointerleave", () => point(null));
    root.addEventListener("blur", () => point(null));
    root.addEventListener("click", () => current !== null && !touched && follow?.(values[current], series));
    root.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step && values.length) point(current === null ? (step > 0 ? 0 : values.length - 1)
        : Math.min(values.length - 1, Math.max(0, current + step)));
      else if (event.key === "Enter" && current !== null) follow?.(values[current], series);
      else if (event.key === "Escape" && current !== null) point(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return root;
  }

  /* The numbers: a row for each x, a column for each series. */
  function numbers(chart, names) {
    const several = new Set(chart.series.map((each) => each.run)).size > 1;
    const values = union(chart, chart.series);
    const columns = [[Text.name(chart.x.label), ""], ...chart.series.map((each) =>
      [`${several ? `${names(each.run)}: ` : ""}${Text.name(each.name)}`, "number"])];
    const rows = values.map((value) => [typeof value === "string" ? Text.name(value) : Text.count(value),
      ...chart.series.map((each) => reading(chart, each, value))]);
    return Dom.table(`${Text.name(chart.title)} (${Text.name(chart.y.label)})`, columns, rows, { class: "plain" });
  }
  function reading(chart, each, value) {
    const i = (each.x ?? chart.x.values).indexOf(value);
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
          el("bdi", null, each.short || each.label)),
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
      const least = chart.kind === "heat" ? Math.min(420, 50 + 12 * shown[0].series.length) : 0;
      const tall = Math.max(least, several ? (shown[0].alone ? 130 : 170) : height);
      body.replaceChildren(...shown.map((each) => panel(chart, each, span, width, tall, probe, follow)));
    }
    let last = 0;
    new ResizeObserver(() => body.clientWidth !== last && (last = body.clientWidth) && draw()).observe(body);

    const seen = new Map();
    for (const { series } of shown) for (const each of series) if (each.short) seen.set(each.short, each);
    const legend = chart.kind === "heat"
      ? el("div", { class: "legend" }, format(chart.y, span[0]), el("i", { class: "ramp" }), format(chart.y, span[1]))
      : seen.size > 1 ? el("div", { class: "legend" }, [...seen].map(([name, each]) =>
        el("span", null, el("i", { class: `swatch s${each.colour}${each.dash ? " dash" : ""}` }),
          el("bdi", null, name)))) : null;
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
