"use strict";
/* Classes: what neurons are called, and which rows are of a class. */
const Classes = (() => {
  const GRAMS = ["token", "bigram", "trigram", "fourgram", "fivegram"]; // in words, by n − 1
  const COLUMNS = ["unigram", ...GRAMS.slice(1)]; // in names of flags
  const TYPES = { __proto__: null, oscillatory: "oscillatory", both_extremes: "both extremes",
    one_extreme: "one extreme", other: "other type" };
  const { el } = Dom;

  /* id → [name, tone]: the tone colours a badge. */
  function describe(run, id) {
    const [kind, number] = id.split(":");
    if (id.endsWith("_supported") && id.startsWith("label_")) {
      return [`${describe(run, id.replace("_supported", ""))[0]}, well supported`, "label"];
    }
    const label = number === undefined ? null : Text.name(run.meta.labels[number] ?? number);
    const gram = COLUMNS.findIndex((each) => id.startsWith(`${each}_detector`));
    if (gram >= 0) return [`${GRAMS[gram]} detector${id.endsWith("_supported") ? ", well supported" : ""}`, "detector"];
    if (kind === "label_only") return [label === null ? "one label only" : `only in ${label}`, "label"];
    if (kind === "label_silent") return [label === null ? "silent in one label" : `silent in ${label}`, "label"];
    if (TYPES[id]) return [TYPES[id], "position"];
    return { __proto__: null, dead: ["dead", "dead"], dead_but_bos: ["only </s>", "dead"],
      positional: ["positional", "position"],
      suppresses: ["suppresses triggers", "update"], weak: ["weak", "position"], strong: ["strong", "position"],
      none: ["none of these", "none"] }[id] ?? [Text.name(id), "none"];
  }

  /* Classes to choose from: [[group, [id, …]], …]. */
  function groups(run) {
    const { flags, labels, types, strengths } = run.meta;
    const of = (test) => flags.filter(test);
    const each = (kind) => labels.map((_, i) => `${kind}:${i}`);
    const found = [
      ["Activity", of((flag) => flag.startsWith("dead"))],
      ["Detectors", of((flag) => flag.includes("_detector") || flag === "suppresses")],
      ["Positions", run.has("positions")
        ? ["positional", ...types.filter(Boolean), ...strengths.filter(Boolean).reverse()] : []],
      ["Labels", run.has("contrast")
        ? ["label_only", ...each("label_only"), "label_silent", ...each("label_silent"),
          ...of((flag) => flag.startsWith("label_"))] : []],
      ["Others", [...of((flag) => !/^dead|_detector|^positional$|^suppresses$|^label_/.test(flag)), "none"]],
    ];
    return found.filter(([, ids]) => ids.length);
  }

  /* Whether a row is of a class: a function of rows. Unknown classes have none. */
  function test(run, id) {
    const { flags, position_type: type, position_strength: strength, label_only: only,
      label_silent: silent } = run.table;
    const [kind, number] = id.split(":");
    if (kind === "label_only" || kind === "label_silent") {
      const column = kind === "label_only" ? only : silent;
      if (!column) return () => false;
      return number === undefined ? (row) => column[row] >= 0 : (row) => column[row] === Number(number);
    }
    if (id === "none") return (row) => !flags[row] && !(only?.[row] >= 0) && !(silent?.[row] >= 0);
    if (run.bits[id]) return (row) => (flags[row] & run.bits[id]) !== 0;
    const [a, b] = [run.meta.types.indexOf(id), run.meta.strengths.indexOf(id)];
    if (a > 0 && type) return (row) => type[row] === a;
    if (b > 0 && strength) return (row) => strength[row] === b;
    return () => false;
  }

  /* The classes of a row, the most telling ones: a supported detector is not said to be a detector again. */
  function ofRow(run, row) {
    const { table, meta } = run;
    const found = meta.flags.filter((flag) => !flag.startsWith("label_") && run.has_flag(row, flag)
      && !run.has_flag(row, `${flag}_supported`));
    if (table.label_only?.[row] >= 0) found.push(`label_only:${table.label_only[row]}`);
    if (table.label_silent?.[row] >= 0) found.push(`label_silent:${table.label_silent[row]}`);
    return found;
  }

  /* Badges of a row; `short` ones for tables. */
  function badges(run, row, short = false) {
    return ofRow(run, row).map((id) => {
      let [name, tone] = describe(run, id);
      if (id === "positional" && run.table.position_type?.[row]) {
        const kind = TYPES[run.meta.types[run.table.position_type[row]]] ?? "";
        name = short ? `positional: ${kind}`
          : `positional: ${kind}, ${run.meta.strengths[run.table.position_strength[row]]}`;
      }
      const supported = name.endsWith(", well supported") || run.has_flag(row, `${id.split(":")[0]}_supported`);
      if (short) name = name.replace(", well supported", "").replace("suppresses triggers", "suppresses");
      const title = supported ? "well supported" : null;
      return el("span", { class: `badge ${tone}${supported ? " sure" : ""}`, title },
        el("bdi", null, name));
    });
  }
  return { GRAMS, COLUMNS, TYPES, describe, groups, test, badges };
})();
