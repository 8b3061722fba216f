"use strict";
/* Verdict: of which classes a neuron is and why: every rule with its number. */
const Verdict = (() => {
  const { el } = Dom;
  const UNKNOWN = 0xffffffff;

  /* One-sided lower bound of a rate (Wilson). */
  function wilson(on, total, z = 1.6449) {
    if (!total) return 0;
    const [p, square] = [on / total, (z * z) / total];
    return Math.max(0, (p + square / 2 - z * Math.sqrt((p * (1 - p)) / total + square / (4 * total))) / (1 + square));
  }

  /* [holds, …text] of each rule by which a row is, or is not, a detector of n-grams of length n. */
  function detects(run, row, n, triggers, activations) {
    const { rules, grams } = run.meta;
    const [word, flag] = [Classes.GRAMS[n - 1], `${Classes.COLUMNS[n - 1]}_detector`];
    const covering = run.table.covering[row * grams + n - 1];
    const limit = n === 1 ? rules.max_covering : rules.max_covering_ngrams;
    const coverage = rules.coverage ?? 95;
    const rate = rules.rate ?? rules.min_rate ?? 95;
    const detector = run.has_flag(row, flag);
    const number = covering
      ? `${Text.plural(covering, word)} ${covering === 1 ? "accounts" : "account"} for ${coverage}% of its activations`
      : `It is active on no ${word}`;
    const found = [[covering >= 1 && covering <= limit, number, ` (covering number; a detector: at most ${limit})`]];
    if (!found[0][0]) return { detector, found };

    const known = activations !== UNKNOWN && activations > 0;
    const sum = (list) => list.reduce((all, each) => all + each.on, 0);
    const share = (on) =>
      (known ? `${Text.percent(on / activations)} of its activations (${Text.count(on)} of ${Text.count(activations)})`
      : `${Text.plural(on, "activation")}; of how many is not known`);
    const own = triggers.filter((each) => each.n === n);
    const few = !detector && own.filter((each) => each.member).length < covering; // the page has the first ones only
    const covered = own.filter((each) => each.covered);
    const always = `it is active on ≥ ${rate}% of their occurrences`;
    const accounts = covered.length
      ? `Covered ${word}s${few ? " among those shown" : ""} – ${always} – account for ${share(sum(covered))}`
      : `No ${word}${few ? " of those shown" : ""} is covered: active on ≥ ${rate}% of its occurrences`;
    found.push([detector || (known && !few && 100 * sum(covered) >= coverage * activations), accounts,
      ` (at least ${coverage}%)`]);
    if (detector) {
      const least = Math.max(1, rules.min_occurrences ?? 1, rules.support_occurrences ?? 5);
      const sure = covered.filter((each) => each.total >= least);
      found.push([run.has_flag(row, `${flag}_supported`),
        `Well supported: those that occur ≥ ${least} times alone account for ${share(sum(sure))}`,
        ` (at least ${coverage}%, and ${rules.support_activations ?? 100} activations)`]);
    }
    return { detector, found };
  }

  /* [[class, whether it is of it, [holds (null: no rule), …text] of each rule], …]. */
  function* reasons(run, row, triggers, arrays, local) {
    const { meta, table } = run;
    const [n, active] = [meta.n_tokens, table.activations[row]];
    const bound = `Silent on ${Text.count(n)} tokens: frequency < 3/n = ${Text.percent(3 / n)} with 95% confidence`;
    const dead = run.has_flag(row, "dead");
    yield ["Dead", dead, [dead ? [true, bound] : [false,
      `Active on ${Text.plural(active, "token")} of ${Text.count(n)}`]]];
    if (dead) return;
    if (run.has_flag(row, "dead_but_bos")) {
      yield ["Only </s>", true, [[true, "All its activations are on </s>: starts of sequences and separators"]]];
    }
    for (let k = 1; k <= meta.grams; k++) {
      const known = arrays.activations_n?.[local * meta.grams + k - 1];
      const { detector, found } = detects(run, row, k, triggers, known);
      yield [`${Classes.GRAMS[k - 1]} detector`, detector, found];
    }
    const centred = run.has("updates") && table.suppression ? table.suppression[row] : NaN;
    if (!Number.isNaN(centred)) {
      const at = rowOf(arrays.update_row, local);
      const holds = run.has_flag(row, "suppresses");
      const raw = at < 0 ? "" : ` ${Text.signed(centred + arrays.projection_mean[at], 3)} (below 0);`;
      yield ["Suppresses triggers", holds,
        [[holds, `Its value vector’s projection at its triggers:${raw} centred ${Text.signed(centred, 3)}`]]];
    }
    if (run.has("positions")) {
      const [holds, type] = [run.has_flag(row, "positional"), table.position_type[row]];
      const words = `Mutual information with the position, beyond chance: ${Text.decimal(table.position_mi[row])} nats`;
      const found = [[holds, words, ` (above ${meta.rules.mi_threshold ?? 0.05})`]];
      if (type) found.push([null, `Type: ${shape(run, row)}`]);
      yield ["Positional", holds, found];
    }
    const labels = { label_only: ["Of one label", "Active in no other label than "],
      label_silent: ["Silent in one label", "Active in every label but "] };
    for (const [column, [title, text]] of Object.entries(run.has("contrast") ? labels : {})) {
      const label = table[column][row];
      if (label < 0) continue;
      const name = el("b", null, Dom.name(meta.labels[label] ?? `label ${label}`));
      yield [title, true, [[true, text, name, run.has_flag(row, `${column}_supported`) ? ", well supported" : ""]]];
    }
  }

  /* What is known of it, rule by rule, and what is not. */
  function why(run, ...of) {
    const sign = (holds) => (holds === null ? "open" : holds ? "ok" : "fails");
    const rule = ([holds, ...text]) => el("dd", { class: sign(holds) },
      holds === null ? null : el("span", { class: "unseen" }, holds ? "holds: " : "does not hold: "), text);
    const groups = [...reasons(run, ...of)].map(([title, holds, rules]) => el("div", { class: holds ? "holds" : "" },
      el("dt", null, Text.capital(title), el("span", { class: "verdict" }, holds ? "yes" : "no")), rules.map(rule)));
    const names = { ngrams: "n-grams", positions: "positions", contrast: "labels", updates: "what it writes" };
    const absent = Object.keys(names).filter((part) => !run.has(part)).map((part) => names[part]);
    return [el("dl", { class: "why" }, groups),
      absent.length ? el("p", { class: "quiet" }, `Not analysed: ${absent.join(", ")}.`) : null];
  }

  /* The type and the strength of a positional neuron. */
  function shape(run, row) {
    const { types, strengths } = run.meta;
    const { position_type: type, position_strength: strength } = run.table;
    return `${Classes.TYPES[types[type[row]]] ?? types[type[row]]}, ${strengths[strength[row]]}`;
  }

  /* Place of a value in an ascending array, −1 if it is not there. */
  function rowOf(values, value) {
    return values ? values.indexOf(value) : -1;
  }
  /* Two cells of a trigger: activations of its occurrences, and their rate with its lower bound. */
  function cells(run, { on, total }) {
    const [rate, low] = [total ? on / total : 0, wilson(on, total, run.meta.rules.wilson_z)];
    const least = Text.percent(Math.min(low, 0.999)); // rounded up it would be none
    return [[Text.count(on), el("span", { class: "quiet" }, ` of ${Text.count(total)}`)],
      el("span", { title: `at least ${least} with 95% confidence` }, Dom.bar(rate, low),
        el("span", { class: "value" }, Text.percent(rate)), el("span", { class: "quiet low" }, ` ≥ ${least}`))];
  }
  const isRare = (run, trigger) => trigger.total < (run.meta.rules.support_occurrences ?? 5);

  return { why, shape, rowOf, cells, isRare };
})();
