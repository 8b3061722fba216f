"use strict";
/* App: addresses, keys, the search dialog, the theme. Begins when all other scripts are there. */
const App = (() => {
  const { el } = Dom;
  const KEYS = [["/", "find a token"], ["g", "go to a neuron, for example 3.1072"], ["o", "overview"],
    ["n", "table of neurons"],
    ["j  k", "next and previous neuron, in the table's order (→ ←, too)"],
    ["w", "more or less text around activations"],
    ["↑ ↓ Enter", "in the table: from row to row, open"], ["d", "dark or light"], ["?", "this help"], ["Esc", "close"]];
  const main = document.getElementById("main");
  let page;
  let run;
  let left = null; // the neuron that was asked for last, if that was the last thing
  let turn = 0; // of what is shown: what is slower than a later one is dropped

  /* {run, view, …} of an address. */
  function parse(hash) {
    let [, number, route] = /^#?(?:(\d+):)?(.*)$/s.exec(hash);
    try {
      route = decodeURIComponent(route.split("?")[0]) + (route.includes("?") ? route.slice(route.indexOf("?")) : "");
    } catch { /* as it is */ }
    const found = { run: page.runs[Number(number ?? 0)] ?? page.runs[0] };
    const neuron = /^(\d+)\.(\d+)$/.exec(route);
    const token = /^token\/(\d+)$/.exec(route);
    if (neuron) return { ...found, view: "neuron", layer: Number(neuron[1]), neuron: Number(neuron[2]) };
    if (token) return { ...found, view: "token", id: Number(token[1]) };
    if (/^neurons(\?|$)/.test(route)) {
      const asked = new URLSearchParams(route.slice(8));
      const state = Object.fromEntries(Object.entries(Table.NOTHING).map(([key, value]) =>
        [key, asked.get(key) ?? value]));
      for (const key of ["low", "high"]) if (!(Number(state[key]) >= 0)) state[key] = "";
      return { ...found, view: "neurons", state };
    }
    return { ...found, view: route === "" || route === "overview" ? "overview" : "unknown", route };
  }

  async function make(asked) {
    if (asked.view === "overview") return Overview.view(page);
    if (asked.view === "unknown") {
      return Dom.message("Nothing is there", `This page has no “${Text.name(asked.route)}”.`);
    }
    const each = await asked.run.open();
    if (asked.view === "neurons") {
      const table = Table.of(each);
      table.set(asked.state);
      return table.root;
    }
    if (asked.view === "token") return Token.view(each, asked.id);
    const row = each.row(asked.layer, asked.neuron);
    if (row >= 0) return Neuron.view(each, row);
    const { layers, neurons } = each.meta;
    const reach = `The run has layers ${layers[0]} to ${layers.at(-1)} of ${Text.count(neurons)} neurons, counted from 0.`;
    const there = layers.includes(asked.layer) && asked.neuron < neurons;
    const reason = there ? "The run has this neuron, but the page shows only some of them." : reach;
    return el("div", null, Dom.message(`${asked.layer}.${asked.neuron} is not in this page`, reason),
      Overview.limits(each));
  }

  /* `hash` is the event's, not the location's: of quick steps back the address is ahead of its events. */
  async function show(hash) {
    const now = ++turn;
    const asked = parse(hash);
    run = asked.run;
    const came = left;
    left = asked.view === "neuron" ? asked : null;
    const waiting = setTimeout(() => now === turn && main.setAttribute("aria-busy", "true"), 120);
    let content;
    try {
      content = await make(asked);
    } catch (error) {
      content = problem(error);
    }
    clearTimeout(waiting);
    if (now !== turn) return;
    main.removeAttribute("aria-busy");
    const same = content === main.firstElementChild;
    if (!same) {
      main.replaceChildren(content);
      scrollTo(0, 0);
      const heading = main.querySelector("h1, h2");
      heading?.setAttribute("tabindex", "-1");
      if (now > 1) heading?.focus({ preventScroll: true });
    }
    if (content.classList.contains("table-view") && !same) {
      Table.of(run).restore(came?.run === run ? run.row(came.layer, came.neuron) : -1);
    }
    const what = { neuron: `${asked.layer}.${asked.neuron} · `, token: `token ${asked.id} · `,
      neurons: "Neurons · " }[asked.view] ?? "";
    document.title = what + Text.name(page.title);
    for (const [view, link] of Object.entries(links)) {
      link.href = run.href(view === "neurons" && run.size !== undefined ? Table.of(run).route : view);
      if (view === asked.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (picker) picker.value = run.number;
    document.documentElement.dataset.view = asked.view;
    document.documentElement.dataset.shown = String(now);
  }

  function problem(error) {
    if (error instanceof Data.Damaged) {
      return Dom.message("A part of this file is damaged",
        `The file may have been cut or changed on its way: ${Text.name(error.message)}. `
          + "Get it again, or write it again with neurolens report.");
    }
    return Dom.message("This cannot be shown", Text.name(error.message));
  }

  /* A dialog that finds tokens by text and goes to neurons. */
  function palette() {
    const list = el("ul", { id: "found", role: "listbox", "aria-label": "Found" });
    const note = el("p", { class: "quiet", role: "status" });
    const input = el("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "found",
      autocomplete: "off", spellcheck: "false", "aria-label": "Text of a token, or a neuron" });
    const dialog = el("dialog", { class: "palette", "aria-label": "Find a token or a neuron" }, input, note, list);
    let at = 0;
    const go = (href) => { dialog.close(); location.hash = href; };
    const mark = (to) => {
      const options = [...list.children];
      at = Math.max(0, Math.min(options.length - 1, to));
      options.forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
      if (options[at]) {
        input.setAttribute("aria-activedescendant", options[at].id);
        options[at].scrollIntoView({ block: "nearest" });
      } else input.removeAttribute("aria-activedescendant");
    };
    const option = (href, i, ...content) =>
      el("li", { role: "option", id: `found-${i}`, "data-href": href, click: () => go(href) }, content);
    function search() {
      const query = input.value;
      const neuron = /^\s*(?:(\d+):)?(\d+)[.\s](\d+)\s*$/.exec(query);
      const options = [];
      note.textContent = "";
      if (neuron) {
        const of = page.runs[Number(neuron[1] ?? run.number)] ?? run;
        const row = of.size === undefined ? -1 : of.row(Number(neuron[2]), Number(neuron[3]));
        options.push(option(of.href(`${Number(neuron[2])}.${Number(neuron[3])}`), 0,
          el("span", null, `neuron ${Number(neuron[2])}.${Number(neuron[3])}`), row >= 0 ? Classes.badges(of, row, true)
            : el("span", { class: "quiet" }, "not in this page")));
      }
      if (query && run.size !== undefined) {
        const [ids, all] = Token.find(run, query);
        for (const id of ids) {
          options.push(option(run.href(`token/${id}`), options.length, Dom.token(run, id, { link: false }),
            el("span", { class: "quiet" }, Text.plural(run.usersOf(id).length, "neuron"))));
        }
        note.textContent = all > ids.length ? `${Text.count(all)} tokens; the first ${ids.length}` : all
          ? Text.plural(all, "token") : neuron ? "" : "No token has this text.";
      } else if (!query) note.textContent = "A token’s text (spaces count), or a neuron as 3.1072";
      list.replaceChildren(...options);
      mark(0);
    }
    input.addEventListener("input", search);
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step) mark(at + step);
      else if (event.key === "Enter" && list.children[at]) go(list.children[at].dataset.href);
      else return;
      event.preventDefault();
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    return {
      dialog,
      async open(hint) {
        input.value = "";
        input.placeholder = hint;
        list.replaceChildren();
        note.textContent = "";
        dialog.showModal();
        input.focus();
        try {
          await run.open();
          search();
        } catch (error) {
          note.textContent = Text.name(error.message);
        }
      },
    };
  }

  const helper = () => {
    const dialog = el("dialog", { class: "help", "aria-labelledby": "help-title" },
      el("h2", { id: "help-title" }, "Keys"),
      el("dl", null, KEYS.map(([key, what]) => el("div", null,
        el("dt", null, key.split(" ").filter(Boolean).map((each) => el("kbd", null, each))), el("dd", null, what)))),
      el("p", { class: "quiet" }, "In texts: ", el("span", { class: "mark" }, "␣"), " a space, ",
        el("span", { class: "mark" }, "↵"), " a line’s end, ", el("span", { class: "mark" }, "‹U+202E›"),
          " an unseen character, ", el("span", { class: "mark" }, "‹F0›"), " a byte of a part of a character."),
      el("form", { method: "dialog" }, el("button", { autofocus: true }, "Close")));
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    return dialog;
  };

  /* The theme is kept where the browser lets it be. */
  function theme(set) {
    let kept = null;
    try {
      kept = localStorage.getItem("neurolens-theme");
      if (set) localStorage.setItem("neurolens-theme", set);
    } catch { /* nothing is kept */ }
    const now = set ?? kept;
    if (now === "dark" || now === "light") document.documentElement.dataset.theme = now;
  }
  function toggle() {
    const dark = document.documentElement.dataset.theme
      ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    theme(dark === "dark" ? "light" : "dark");
  }

  let links = {};
  let picker = null;
  function start() {
    theme(null);
    try {
      page = Data.read();
    } catch (error) {
      main.replaceChildren(problem(error));
      document.documentElement.dataset.shown = "0";
      return;
    }
    links = { overview: el("a", { href: "#overview" }, "Overview"), neurons: el("a", { href: "#neurons" }, "Neurons") };
    if (page.runs.length > 1) {
      const pick = () => {
        const view = document.documentElement.dataset.view === "overview" ? "overview" : "neurons";
        location.hash = page.runs[picker.value].href(view);
      };
      picker = el("select", { "aria-label": "run", change: pick },
        page.runs.map((each) => el("option", { value: each.number }, Text.name(each.meta.name))));
    }
    const finder = palette();
    const help = helper();
    const find = () => finder.open("text of a token");
    const jump = () => finder.open("layer.neuron, for example 3.1072");
    const button = (kind, name, key, click, ...content) =>
      el("button", { type: "button", class: kind, "aria-label": name, title: `${name} (${key})`, click }, content);
    document.getElementById("bar").replaceChildren(el("a", { class: "brand", href: "#overview" }, "neurolens"),
      el("nav", { "aria-label": "Views" }, Object.values(links)), picker ?? "",
      el("span", { class: "gap" }),
      button("find", "Find a token or a neuron", "/", find, el("span", null, "Find a token or a neuron"),
        el("kbd", null, "/")),
      button("icon", "Dark or light", "d", toggle, "◐"),
      button("icon", "Help: keys", "?", () => help.showModal(), "?"));
    document.body.append(finder.dialog, help);
    addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey
        || event.target.closest?.("input, select, textarea, dialog[open]")) return;
      const follow = (key) => document.querySelector(`#main [data-key="${key}"]`)?.click();
      const act = { "/": find, g: jump, "?": () => help.showModal(), d: toggle, o: () => links.overview.click(),
        n: () => links.neurons.click(), j: () => follow("j"), k: () => follow("k"), w: () => follow("w"),
        ArrowRight: () => follow("j"), ArrowLeft: () => follow("k") }[event.key];
      if (!act) return;
      if (event.key.startsWith("Arrow")
        && (document.documentElement.dataset.view !== "neuron" || event.target.closest?.(".scroller"))) return;
      event.preventDefault();
      act();
    });
    addEventListener("hashchange", (event) => show(new URL(event.newURL).hash));
    show(location.hash).then(() => { // what the first search takes is made ready while nothing else is to do
      const idle = window.requestIdleCallback ?? ((act) => setTimeout(act, 300));
      idle(() => page.runs[0].open().then((each) => idle(() => [each.folded, each.users])).catch(() => {}));
    });
  }
  return { start, get run() { return run; } };
})();
App.start();
