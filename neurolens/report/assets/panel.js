"use strict";
/* Panel: some series of a chart as one SVG: axes, lines or bars, and the cross that reads its values. */
const Panel = (() => {
  const { svg } = Dom;
  const round = (value) => Math.round(value * 10) / 10;
  const known = (value) => Number.isFinite(value ?? NaN);

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
  function powers(low, high) {
    const found = [];
    for (let k = Math.ceil(Math.log10(low) - 1e-9); 10 ** k <= high * (1 + 1e-9); k++) found.push(10 ** k);
    return found;
  }
  function short(value) {
    for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
      if (Math.abs(value) >= size) return `${Number((value / (unit === "k" ? 1e3 : size)).toPrecision(3))}${unit}`;
    }
    return Number.isInteger(value) ? Text.count(value) : Text.decimal(value);
  }
  const cut = (words, most) => (words.length > most ? `${words.slice(0, Math.max(3, most - 1))}…` : words);

  /* The x values of series, rising; words as they come. */
  function union(series) {
    const values = [...new Set(series.flatMap((each) => each.x))];
    return values.some((value) => typeof value === "string") ? values : values.sort((a, b) => a - b);
  }

  /* Where values lie: {values, X, Y, base, slot, steps, marks, …} in pixels. */
  function layout(chart, { title, series }, [low, high], width, height) {
    const values = union(series);
    const whole = !chart.y.percent
      && chart.series.every((each) => each.y.every((y) => y === null || Number.isInteger(y)));
    const [steps, step] = ticks(low, high, height > 130 ? 5 : 2, whole);
    const above = step * Math.ceil(high / step - 1e-9);
    if (high >= 0.98 * above) high = above;
    low = Math.min(low, step * Math.floor(low / step + 1e-9));
    const marks = steps.map((value) => (chart.y.percent ? Text.percent(value) : short(value)));
    const left = 12 + 6.6 * Math.max(...marks.map((mark) => mark.length), 2);
    const top = title ? 24 : 10;
    const [w, h] = [Math.max(20, width - left - 12), height - top - 34];
    const slot = w / Math.max(1, values.length);
    const apart = chart.kind !== "line" || values.some((value) => typeof value === "string"); // each has its own place
    const scale = chart.x.log && values[0] > 0 ? Math.log : Number;
    const [a, b] = [scale(values[0]), scale(values.at(-1))];
    const X = (value) => left + (apart ? (values.indexOf(value) + 0.5) * slot
      : (b > a ? (scale(value) - a) / (b - a) : 0.5) * w);
    const Y = (value) => top + h - ((value - low) / (high - low)) * h;
    return { values, X, Y, left, top, w, h, slot, apart, steps, marks, base: Y(Math.max(0, low)) };
  }

  function axes(chart, title, { values, X, Y, left, top, w, h, slot, apart, steps, marks, base }) {
    const text = (x, y, string, anchor, kind) =>
      svg("text", { x: round(x), y: round(y), "text-anchor": anchor, class: kind }, string);
    const level = (y, kind) => svg("line", { x1: left, x2: left + w, y1: round(y), y2: round(y), class: kind });
    const parts = steps.flatMap((value, i) => [level(Y(value), "grid"), text(left - 6, Y(value) + 4, marks[i], "end")]);
    const named = values.some((value) => typeof value === "string");
    const room = Math.max(1, Math.floor(w / (named ? 64 : 44)));
    const every = Math.ceil(values.length / room);
    const whole = values.every(Number.isInteger);
    const shown = apart ? values.filter((_, i) => i % every === 0)
      : chart.x.log && values[0] > 0 ? powers(values[0], values.at(-1))
        : ticks(values[0], values.at(-1), Math.min(room, 8), whole)[0];
    for (const value of shown) {
      const words = typeof value === "string" ? Text.name(value) : short(value);
      parts.push(text(X(value), top + h + 15, cut(words, Math.floor((apart ? slot * every : 60) / 6.5)), "middle"));
    }
    if (title) parts.push(text(left, 13, cut(title, Math.floor(w / 6)), "start", "panel-title"));
    return [...parts, text(left + w, top + h + 30, Text.name(chart.x.label), "end"), level(base, "base")];
  }

  function line(each, { X, Y }) {
    const at = (i, y) => `${round(X(each.x[i]))},${round(Y(y))}`;
    let path = "";
    each.y.forEach((y, i) => y !== null && (path += `${i && each.y[i - 1] !== null ? "L" : "M"}${at(i, y)}`));
    const drawn = [];
    const spread = each.y.map((_, i) => i).filter((i) => known(each.low?.[i]) && known(each.high?.[i]));
    if (spread.length > 1) {
      const [upper, lower] = [spread.map((i) => at(i, each.high[i])), spread.reverse().map((i) => at(i, each.low[i]))];
      drawn.push(svg("path", { d: `M${[...upper, ...lower].join("L")}Z`, class: "band" }));
    }
    drawn.push(svg("path", { d: path, class: "line" }));
    if (each.y.length > 48) return drawn;
    const dots = each.y.map((y, i) =>
      (y === null ? null : svg("circle", { cx: round(X(each.x[i])), cy: round(Y(y)), r: 2.3 })));
    return [...drawn, dots.filter(Boolean)];
  }

  /* Bars of series k of `count`; `sums` are those of the series below, by x, if they are stacked, else null. */
  function bars(each, k, count, sums, { X, Y, slot, base }) {
    const inner = Math.min(slot * 0.76, sums ? 46 : 30 * count);
    const thick = Math.max(1, sums ? inner : inner / count - 1);
    return each.y.flatMap((y, i) => {
      if (y === null) return [];
      const x = X(each.x[i]) - inner / 2 + (sums ? 0 : (k * inner) / count);
      const below = sums?.get(each.x[i]) ?? 0;
      sums?.set(each.x[i], below + y);
      const [from, to] = [below ? Y(below) : base, Y(below + y)];
      const size = { width: round(thick), height: round(Math.max(0.7, Math.abs(from - to))) };
      const bar = y === 0 ? null : svg("rect", { x: round(x), y: round(Math.min(from, to)), ...size });
      const middle = round(x + thick / 2);
      const whisker = !sums && thick > 3 && known(each.low?.[i]) && known(each.high?.[i])
        ? svg("path", { d: `M${middle},${round(Y(each.high[i]))}V${round(Y(each.low[i]))}`, class: "whisker" }) : null;
      return [bar, whisker].filter(Boolean);
    });
  }

  /* Tells probe(x, share of the width, svg) what is pointed at, by pointer or arrow keys, null for nothing; a click or
     Enter is follow(x, series). */
  function listen(root, cross, { values, X }, width, series, probe, follow) {
    let current = null;
    let touched = false; // a finger that reads a value does not follow it
    const point = (i) => {
      current = i;
      const x = i === null ? 0 : X(values[i]);
      cross.setAttribute("visibility", i === null ? "hidden" : "visible");
      for (const end of ["x1", "x2"]) cross.setAttribute(end, round(x));
      probe(i === null ? null : values[i], x / width, root);
    };
    const nearest = (event) => {
      const box = root.getBoundingClientRect();
      const x = (event.clientX - box.left) * (width / (box.width || width));
      let best = 0;
      values.forEach((value, i) => Math.abs(X(value) - x) < Math.abs(X(values[best]) - x) && (best = i));
      return values.length ? best : null;
    };
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
      const last = values.length - 1;
      if (step && last >= 0) point(current === null ? (step > 0 ? 0 : last)
        : Math.min(last, Math.max(0, current + step)));
      else if (event.key === "Enter" && current !== null) follow?.(values[current], series);
      else if (event.key === "Escape" && current !== null) point(null);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /* The panel `{title, series}` of a chart, for y from low to high. */
  function draw(chart, panel, span, width, height, probe, follow) {
    const { title, series } = panel;
    const place = layout(chart, panel, span, width, height);
    const sums = chart.kind === "stack" ? new Map() : null;
    const marks = series.map((each, k) => svg("g", { class: `s${each.colour}${each.dash ? " dash" : ""}` },
      chart.kind === "line" ? line(each, place) : bars(each, k, series.length, sums, place)));
    const cross = svg("line", { y1: place.top, y2: place.top + place.h, class: "cross", visibility: "hidden" });
    const names = [Text.name(chart.title), title, Text.name(chart.y.label)].filter(Boolean);
    const label = `${names.join(": ")} by ${Text.name(chart.x.label)}. Arrow keys read the values.`;
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", tabindex: 0,
      "aria-label": label },
      axes(chart, title, place), marks, cross);
    listen(root, cross, place, width, series, probe, follow);
    return root;
  }
  return { draw, union };
})();
