"use strict";
/* Table: all rows of a run, filtered and sorted by index arrays; only the rows in sight are in the document. */
const Table = (() => {
  const { el } = Dom;
  const HEIGHT = 34; // pixels of a row, as in page.css
  const SPARE = 12; // rows beyond those in sight
  const NOTHING = { class: "", layer: "", low: "", high: "", text: "", sort: "neuron" };
  const tables = new Map(); // run number → Table, kept so that coming back finds it as it was

  class View {
    constructor(run) {
      this.run = run;
      this.columns = Columns.of(run);
      this.orders = new Map();
      this.matches = ["", null];
      this.state = { ...NOTHING };
      this.shown = new Map(); // place in the order → <tr>
      this.build();
      this.filter();
    }

    order(sort) {
      if (!this.orders.has(sort)) {
        const falling = sort.startsWith("-");
        const column = this.columns[falling ? sort.slice(1) : sort];
        if (this.orders.size > 8) this.orders.clear();
        this.orders.set(sort, Columns.order(column ? column[2]() : this.columns.neuron[2](), falling));
      }
      return this.orders.get(sort);
    }

    /* Rows of the state, in its order → `this.rows`; then draws. */
    filter() {
      const { run, state } = this;
      const { frequency, search_token: token } = run.table;
      const keep = new Uint8Array(run.size).fill(1);
      const drop = (test) => { for (let row = 0; row < run.size; row++) if (keep[row] && !test(row)) keep[row] = 0; };
      if (state.layer !== "") {
        const [first, last] = run.starts.get(Number(state.layer)) ?? [0, 0];
        keep.fill(0, 0, first).fill(0, last);
      }
      if (state.class) drop(Classes.test(run, state.class));
      const [low, high] = [state.low === "" ? -Infinity : Number(state.low), state.high === "" ? Infinity
        : Number(state.high)];
      if (low > -Infinity || high < Infinity) drop((row) => frequency[row] >= low && frequency[row] <= high);
      let tokens = "";
      if (state.text && token) {
        if (this.matches[0] !== state.text) this.matches = [state.text, run.matching(state.text)];
        const [, match] = this.matches;
        const { start, owner } = run.users;
        const hit = new Uint8Array(run.size);
        let used = 0;
        for (let id = 0; id < match.length; id++) {
          if (!match[id] || start[id] === start[id + 1]) continue;
          used++;
          for (let k = start[id]; k < start[id + 1]; k++) hit[owner[k]] = 1;
        }
        for (let row = 0; row < run.size; row++) keep[row] &= hit[row];
        tokens = ` · ${Text.plural(used, "token")} of triggers with this text`;
      }
      const all = this.order(state.sort);
      const rows = new Uint32Array(run.size);
      let size = 0;
      for (let i = 0; i < all.length; i++) if (keep[all[i]]) rows[size++] = all[i];
      this.rows = rows.subarray(0, size);
      this.places = null;
      this.hits.textContent = `${Text.count(size)} of ${Text.plural(run.size, "neuron")}${tokens}`;
      this.empty.hidden = size > 0;
      this.table.setAttribute("aria-rowcount", size + 1);
      for (const [id, head] of this.heads) {
        const now = state.sort === id ? "ascending" : state.sort === `-${id}` ? "descending" : null;
        if (now) head.setAttribute("aria-sort", now);
        else head.removeAttribute("aria-sort");
      }
      for (const row of this.shown.values()) row.remove();
      this.shown.clear();
      this.draw();
    }

    /* The rows in sight, and spare ones. */
    draw() {
      const { scroller, rows } = this;
      const size = rows.length;
      const sight = Math.ceil((scroller.clientHeight || 600) / HEIGHT);
      const top = Math.floor(scroller.scrollTop / HEIGHT);
      const [first, last] = [Math.max(0, Math.min(top, size) - SPARE), Math.min(size, top + sight + SPARE)];
      const kept = scroller.scrollTop;
      const focused = document.activeElement;
      let lost = false;
      for (const [place, row] of this.shown) {
        if (place >= first && place < last) continue;
        lost ||= row.contains(focused);
        row.remove();
        this.shown.delete(place);
      }
      let next = this.body.firstElementChild;
      for (let place = first; place < last; place++) {
        const known = this.shown.get(place);
        if (known) { next = known.nextElementSibling; continue; }
        const made = this.draw_row(place);
        this.shown.set(place, made);
        this.body.insertBefore(made, next);
      }
      this.before.style.height = `${first * HEIGHT}px`;
      this.after.style.height = `${(size - last) * HEIGHT}px`;
      if (scroller.scrollTop !== kept) scroller.scrollTop = kept; // meanwhile there was less to scroll
      if (lost) scroller.focus({ preventScroll: true });
    }
    draw_row(place) {
      const row = this.rows[place];
      return el("tr", { "aria-rowindex": place + 2, "data-row": row, "data-place": place },
        Object.entries(this.columns).map(([id, [, , , cell]], i) =>
          el(i ? "td" : "th", { scope: i ? null : "row", class: `c-${id}` }, cell(row))));
    }

    /* Place of a row in the order, −1 if it is filtered out. */
    place(row) {
      if (!this.places) {
        this.places = new Int32Array(this.run.size).fill(-1);
        this.rows.forEach((each, i) => { this.places[each] = i; });
      }
      return this.places[row];
    }

    set(state) {
      const next = { ...this.state, ...state };
      const changed = Object.keys(NOTHING).some((key) => next[key] !== this.state[key]);
      this.state = next;
      for (const [key, input] of Object.entries(this.inputs)) {
        const value = key === "low" || key === "high"
          ? (next[key] === "" ? "" : String(Number((100 * next[key]).toPrecision(12)))) : next[key];
        if (input !== document.activeElement && input.value !== value) {
          if (input.tagName === "SELECT" && ![...input.options].some((option) => option.value === value)) {
            input.append(el("option", { value }, key === "class" ? Classes.describe(this.run, value)[0]
              : Text.name(value)));
          }
          input.value = value;
        }
      }
      if (!changed) return;
      this.scroller.scrollTop = this.scrolled = 0;
      this.filter();
    }

    /* As `set`, by the user: the address follows. */
    change(state) {
      this.set(state);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.address(), 200);
    }
    get route() {
      const filled = Object.entries(this.state).filter(([key, value]) => value !== NOTHING[key]);
      return `neurons${filled.length ? `?${new URLSearchParams(filled)}` : ""}`;
    }
    address() {
      clearTimeout(this.timer);
      if (this.root.isConnected && !this.root.hidden) history.replaceState(null, "", this.run.href(this.route));
    }

    move(event) {
      const link = event.target.closest?.("tr[data-place]");
      const from = link ? Number(link.dataset.place) : Math.floor(this.scroller.scrollTop / HEIGHT) - 1;
      const page = Math.max(1, Math.floor(this.scroller.clientHeight / HEIGHT) - 2);
      const to = { ArrowDown: from + 1, ArrowUp: from - 1, PageDown: from + page, PageUp: from - page, Home: 0,
        End: this.rows.length - 1,
        j: from + 1, k: from - 1 }[event.key];
      if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.focus(Math.max(0, Math.min(this.rows.length - 1, to)));
    }
    focus(place) {
      if (!this.rows.length) return;
      const { scroller } = this;
      const [top, bottom] = [place * HEIGHT, (place + 1) * HEIGHT + this.head.offsetHeight];
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (bottom > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = bottom - scroller.clientHeight;
      this.draw();
      this.shown.get(place)?.querySelector("a.id").focus({ preventScroll: true });
    }

    build() {
      const { run } = this;
      const sorts = (id) => { // rising, then falling; numbers the other way round
        const first = id === "neuron" || id === "trigger" || Classes.COLUMNS.includes(id) ? id : `-${id}`;
        const second = first === id ? `-${id}` : id;
        this.change({ sort: this.state.sort === first ? second : first });
      };
      this.heads = Object.entries(this.columns).map(([id, [title, why]]) =>
        [id, el("th", { scope: "col", class: `c-${id}` },
        el("button", { type: "button", title: why, click: () => sorts(id) }, title,
          el("span", { class: "arrow", "aria-hidden": "true" })))]);
      this.head = el("thead", null, el("tr", { "aria-rowindex": 1 }, this.heads.map(([, head]) => head)));
      this.body = el("tbody");
      this.before = el("td");
      this.after = el("td");
      const space = (cell) => el("tbody", { class: "space", "aria-hidden": "true" }, el("tr", null, cell));
      this.table = el("table", { class: "neurons" },
        el("caption", { class: "unseen" }, `Neurons of ${Text.name(run.meta.name)}`), this.head,
        space(this.before), this.body, space(this.after));
      this.empty = el("p", { class: "empty", hidden: true }, "No neuron is like this. ",
        el("button", { type: "button", click: () => this.change({ ...NOTHING, sort: this.state.sort }) },
          "Clear the filters"));
      let waiting = false;
      this.scroller = el("div", { class: "window", tabindex: 0, role: "region",
        "aria-label": "Neurons; arrow keys go from row to row",
        scroll: () => {
          this.scrolled = this.scroller.scrollTop;
          if (!waiting) requestAnimationFrame(() => { waiting = false; this.draw(); });
          waiting = true;
        },
        keydown: (event) => this.move(event) }, this.table, this.empty);
      new ResizeObserver(() => this.draw()).observe(this.scroller);
      this.hits = el("p", { class: "hits", role: "status" });
      const options = Classes.groups(run).map(([group, ids]) => el("optgroup", { label: group }, ids.map((id) => {
        const test = Classes.test(run, id);
        let found = 0;
        for (let row = 0; row < run.size; row++) if (test(row)) found++;
        return el("option", { value: id }, `${Classes.describe(run, id)[0]} (${Text.count(found)})`);
      })));
      const field = (label, input) => {
        if (!input.hasAttribute("aria-label")) input.setAttribute("aria-label", label);
        return el("label", null, el("span", null, label), input);
      };
      const share = (key) => el("input", { type: "text", inputmode: "decimal", size: 6, placeholder: key === "low" ? "0"
        : "100", "aria-label": `frequency ${key === "low" ? "from" : "to"}, percent`,
        input: (event) => {
          const text = event.target.value.trim().replace("%", "").replace(",", ".");
          event.target.toggleAttribute("aria-invalid", text !== "" && !(Number(text) >= 0));
          if (text === "" || Number(text) >= 0) this.change({ [key]: text === "" ? ""
            : String(Number((Number(text) / 100).toPrecision(12))) });
        } });
      this.inputs = {
        class: el("select", { change: (event) => this.change({ class: event.target.value }) },
          el("option", { value: "" }, "all classes"), options),
        layer: el("select", { change: (event) => this.change({ layer: event.target.value }) },
          el("option", { value: "" }, "all layers"),
          run.meta.layers.map((layer) => el("option", { value: layer }, layer))),
        low: share("low"),
        high: share("high"),
        text: el("input", { type: "search", placeholder: "text of its triggers", spellcheck: "false",
          autocomplete: "off", input: (event) => this.change({ text: event.target.value }) }),
      };
      this.root = el("div", { class: "table-view" },
        el("h1", { tabindex: -1 }, "Neurons", run.meta.complete ? "" : el("small", null, " a part of them")),
          Overview.limits(run),
        el("form", { class: "filters", role: "search", submit: (event) => event.preventDefault() },
          field("class", this.inputs.class), field("layer", this.inputs.layer),
          el("span", { class: "range" }, field("frequency, %", this.inputs.low), el("span", null, "–"),
            this.inputs.high),
          run.table.search_token ? field("triggers", this.inputs.text) : null,
          el("button", { type: "button", class: "plain", click: () =>
            this.change({ ...NOTHING, sort: this.state.sort }) }, "Clear")),
        this.hits, el("p", { class: "print-note" }, "Printed are the rows in sight and a few around them."),
          this.scroller);
    }
    /* After it is in the document again; `row`: where one comes from, −1 for nowhere. */
    restore(row) {
      this.scroller.scrollTop = this.scrolled ?? 0;
      this.draw();
      if (row >= 0 && this.place(row) >= 0) this.focus(this.place(row));
    }
  }

  /* The table of an open run. */
  function of(run) {
    if (!tables.has(run.number)) tables.set(run.number, new View(run));
    return tables.get(run.number);
  }
  return { of, NOTHING };
})();
