"use strict";
/* Dom: elements from names, attributes and children. Strings become text nodes. */
const Dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LONG = 40; // characters of a token that tables show

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (typeof value === "function") node.addEventListener(name, value);
      else if (name === "style") for (const [key, each] of Object.entries(value)) node.style.setProperty(key, each);
      else node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  }
  const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  const name = (string) => el("bdi", null, Text.name(string));

  /* Pieces of text as nodes: marks of ours are set apart from what the text holds itself. */
  const nodes = (pieces) => pieces.map(([text, mark]) => (mark ? el("span", { class: "mark" }, text) : text));

  /* The box of a token: a link to its page. `whole`: not cut. */
  function token(run, id, { link = true, whole = false } = {}) {
    let pieces = Text.ofBytes(run.bytes(id));
    const full = Text.flat(pieces);
    if (!whole && full.length > LONG) pieces = [...Text.pieces([...full].slice(0, LONG).join(""), false), ["…", true]];
    const title = `${full.length > LONG && !whole ? `${full}\n` : ""}token ${id}`;
    const content = full ? nodes(pieces) : [el("span", { class: "mark" }, "empty")];
    return el(link ? "a" : "span", { class: "token", href: link && run.href(`token/${id}`), title },
      el("bdi", null, content));
  }

  /* A table with a caption; columns: [[name, class], …]; rows: lists of cells, the first one heads its row. */
  function table(caption, columns, rows, attributes = {}) {
    const head = columns.map(([text, kind]) => el("th", { scope: "col", class: kind }, text));
    const body = rows.map((cells) =>
      el("tr", null, cells.map((cell, i) => el(i ? "td" : "th", { class: columns[i][1], scope: i ? null : "row" },
        cell))));
    return el("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": caption },
      el("table", attributes, el("caption", { class: "unseen" }, caption), el("thead", null, el("tr", null, head)),
        el("tbody", null, body)));
  }

  /* A bar of a share, with its lower bound (a number, or null) as the dark part. */
  function bar(share, low = null) {
    const width = (value) => `${(100 * Math.min(1, Math.max(0, value))).toFixed(2)}%`;
    return el("span", { class: "bar", "aria-hidden": "true" }, el("i", { style: { width: width(share) } }),
      low === null ? null : el("b", { style: { width: width(low) } }));
  }

  const message = (title, ...text) =>
    el("div", { class: "message", role: "alert" }, el("h2", null, title), el("p", null, ...text));
  const section = (title, ...children) => el("section", null, el("h2", null, title), children);
  return { el, svg, name, nodes, token, table, bar, message, section };
})();
