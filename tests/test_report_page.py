"""The report page in a browser: what it shows against the arrays it was made from, by keyboard and by hostile text."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from report_payload import ASSETS, GRAMS, HOSTILE, SCRIPT, SCRIPTS, Made, make_page, make_run, render

NAMES = ("</title><script>window.hacked=4</script>", "\u202egnp.exe\u202c", "two\nlines & 'quotes' \"both\"")


@pytest.fixture
def look(browser, tmp_path) -> Iterator[Callable[..., Any]]:
    """Opens an HTML text as a file at a route: the browser's page. Nothing may go wrong in it, nor be asked for."""
    contexts, wrong = [], []

    def opened(html: str, route: str = "", **options: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(html, encoding="utf-8")
        context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        allowed = (file.as_uri(), "data:,")
        page.on("request", lambda request: request.url.split("#")[0] in allowed or wrong.append(request.url))
        page.goto(f"{file.as_uri()}{route}")
        page.wait_for_selector("html[data-shown]")
        return page

    yield opened
    hacked = [page.evaluate("window.hacked") for context in contexts for page in context.pages]
    for context in contexts:
        context.close()
    assert wrong == []
    assert set(hacked) <= {None}


@pytest.fixture(scope="module")
def made() -> Made:
    return make_run(layers=4, neurons=150)


@pytest.fixture(scope="module")
def html(made) -> str:
    return render(*make_page(made))


def go(page: Any, route: str) -> None:
    """Follow a route and wait until it is shown."""
    page.evaluate(
        """route => new Promise(done => {
            const options = { attributes: true, attributeFilter: ['data-shown'] };
            const before = location.href;
            const shown = new MutationObserver(() => { shown.disconnect(); done(); });
            shown.observe(document.documentElement, options);
            location.hash = route;
            if (location.href === before) done();
        })""",
        route,
    )


def listed(page: Any) -> list[int]:
    """Rows of the table in its order, as the page has them."""
    return page.evaluate("Array.from(Table.of(App.run).rows)")


def in_sight(page: Any) -> list[int]:
    """Rows in the document, from the first on."""
    return page.evaluate("Array.from(document.querySelectorAll('tr[data-row]'), row => Number(row.dataset.row))")


def visible(data: bytes) -> str:
    """Text of a token as the page is to show it. An oracle: what is not shown is escaped by code point or by byte."""
    import unicodedata

    text = ""
    for char in data.decode("utf-8", "surrogateescape"):
        if 0xDC80 <= ord(char) <= 0xDCFF:
            text += f"‹{ord(char) - 0xDC00:02X}›"
        elif char in " \n\t":
            text += {" ": "␣", "\n": "↵", "\t": "⇥"}[char]
        elif unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp", "Co", "Cn") and not (
            char == "\u200d" and text
        ):
            text += f"‹U+{ord(char):04X}›"
        else:
            text += f"◌{char}" if not text and unicodedata.category(char)[0] == "M" else char
    return text or "empty"


def cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


# What is in the file


def test_assets_are_plain_text_that_cannot_end_its_element():
    assert {path.name for path in ASSETS.iterdir()} == {"page.html", "page.css", *(f"{name}.js" for name in SCRIPTS)}
    for path in ASSETS.iterdir():
        text = path.read_text("utf-8")
        if path.suffix != ".html":
            assert not re.search(r"</(script|style)|<!--", text, re.I), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name


def test_the_overview_has_the_facts_the_counts_and_the_figures(look, html, made):
    page = look(html)
    assert page.title() == "opt-made.zarr" and page.inner_text("h1") == "opt-made.zarr"
    for name, value in made.meta["facts"]:
        assert page.locator(".facts div", has_text=name).locator("dd", has_text=value).count() >= 1
    dead = page.locator("table.classes tbody tr").first.locator("td").all_inner_texts()
    assert [int(text.replace(",", "")) for text in (dead[0], *dead[2:])] == [
        made.meta["totals"]["dead"], *made.meta["by_layer"]["dead"]]  # fmt: skip
    assert page.locator(".chart svg").count() >= 7
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    page.locator("table.classes a", has_text=str(made.meta["by_layer"]["dead"][2])).first.click()
    page.wait_for_selector("html[data-view=neurons]")


def test_a_figure_tells_its_values_to_pointer_and_keys_and_as_a_table(look, html, made):
    page = look(html)
    figure = page.locator("[data-chart=dead]")
    svg, tip = figure.locator("svg"), figure.locator(".tip")
    svg.hover()
    assert tip.is_visible()
    page.mouse.move(0, 0)
    svg.focus()
    for _ in range(3):
        svg.press("ArrowRight")
    share = made.meta["by_layer"]["dead"][2] / made.meta["neurons"]
    assert tip.inner_text().startswith("layer 2")
    assert page.evaluate("share => Text.percent(share)", share) in tip.inner_text()
    figure.locator("summary").click()
    figure.locator("tbody").wait_for()
    cells = figure.locator("tbody tr").all_inner_texts()
    assert len(cells) == 4 and [cell.split()[0] for cell in cells] == list("0123")
    svg.focus()
    svg.press("ArrowLeft")
    svg.press("Enter")  # the last layer's dead neurons
    page.wait_for_selector("html[data-view=neurons]")
    assert page.url.endswith("#neurons?class=dead&layer=3")
    assert len(listed(page)) == made.meta["by_layer"]["dead"][3]


# The table


def sorted_rows(keys: np.ndarray, falling: bool) -> list[int]:
    keys = np.asarray(keys, np.float64)
    return np.lexsort((np.arange(len(keys)), -keys if falling else keys, np.isnan(keys))).tolist()


def test_the_table_sorts_by_every_column(look, html, made):
    table = made.table
    texts = [word.decode("utf-8", "replace").lower() for word in made.words]
    used = sorted(
        {token for token in table["trigger"].tolist() if token >= 0},
        key=lambda token: (texts[token].encode("utf-16-be"), token),
    )
    places = {token: i for i, token in enumerate(used)} | {-1: np.nan}
    keys = {
        "neuron": np.arange(len(table["layer"])),
        "classes": np.where(table["flags"], table["flags"], np.nan),
        "frequency": table["frequency"],
        "trigger": np.array([places[token] for token in table["trigger"].tolist()], float),
        "suppression": table["suppression"],
        "position": table["position_mi"],
        "label": table["label_mi"],
    }
    for n, name in enumerate(GRAMS[:3]):
        keys[name] = np.where(table["covering"][:, n], table["covering"][:, n], np.nan)
    page = look(html, "#neurons")
    assert page.locator("th button").count() == len(keys)
    for name, values in keys.items():
        for falling in (False, True):
            go(page, f"neurons?sort={'-' * falling}{name}")
            want = sorted_rows(values, falling)
            assert listed(page) == want, (name, falling)
            assert in_sight(page) == want[: len(in_sight(page))]
            head = page.locator(f"th.c-{name}[scope=col]")
            assert head.get_attribute("aria-sort") == ("descending" if falling else "ascending")
            # with its arrow
            assert head.locator("button").evaluate("each => each.scrollWidth <= each.clientWidth"), name
    page.locator("th.c-frequency button").click()
    assert listed(page) == sorted_rows(table["frequency"], True)
    page.locator("th.c-frequency button").click()
    assert listed(page) == sorted_rows(table["frequency"], False)


def test_rows_are_in_the_document_only_while_they_are_in_sight(look, html, made):
    page = look(html, "#neurons")
    size = len(made.table["layer"])
    assert page.get_attribute("table.neurons", "aria-rowcount") == str(size + 1)
    assert len(in_sight(page)) < 60
    page.evaluate("document.querySelector('.window').scrollTop = 200 * 34")
    page.wait_for_function("() => document.querySelector('tr[data-place=\"200\"]')")
    row = page.locator("tr[data-place='200']")
    assert row.get_attribute("aria-rowindex") == "202" and row.locator("a.id").inner_text() == "1.50"
    assert abs(row.bounding_box()["y"] - page.locator(".window").bounding_box()["y"]) < 40
    assert len(in_sight(page)) < 80
    page.evaluate("document.querySelector('.window').scrollTop = 1e9")
    page.wait_for_function("last => document.querySelector(`tr[data-place='${last}']`)", arg=size - 1)
    assert page.locator("tr[data-place]").last.locator("a.id").inner_text() == "3.149"


def test_every_filter_keeps_what_a_brute_force_count_keeps(look, html, made):
    table, meta = made.table, made.meta
    expected = {f"class={flag}": (table["flags"] >> i) & 1 for i, flag in enumerate(meta["flags"])}
    expected |= {f"class={name}": table["position_type"] == i for i, name in enumerate(meta["types"]) if i}
    expected |= {f"class={name}": table["position_strength"] == i for i, name in enumerate(meta["strengths"]) if i}
    for kind in ("label_only", "label_silent"):
        expected |= {f"class={kind}": table[kind] >= 0}
        expected |= {f"class={kind}:{i}": table[kind] == i for i in range(3)}
    expected["class=none"] = (table["flags"] == 0) & (table["label_only"] < 0) & (table["label_silent"] < 0)
    expected["class=nothing"] = np.zeros(len(table["flags"]))
    expected |= {f"layer={layer}": table["layer"] == layer for layer in (0, 3)}
    expected["low=0.01&high=0.1"] = (table["frequency"] >= 0.01) & (table["frequency"] <= 0.1)
    expected["high=0"] = table["frequency"] == 0
    some = (table["position_type"] > 0) & (table["layer"] == 2)
    expected["class=positional&layer=2&low=0.02"] = some & (table["frequency"] >= 0.02)
    for query in (" the", "onmouseover", "zzz", "É".lower(), "class"):
        hits = np.array([query in word.decode("utf-8", "replace").lower() for word in made.words])
        starts = table["search_start"].astype(int)
        rows = [hits[table["search_token"][a:b]].any() for a, b in itertools.pairwise(starts)]
        expected[f"text={query.replace(' ', '%20')}"] = np.array(rows)
    page = look(html, "#neurons")
    options = dict(
        page.evaluate("[...document.querySelector('select').options].map(each => [each.value, each.textContent])")
    )
    for query, mask in expected.items():
        go(page, f"neurons?{query}")
        want = np.flatnonzero(mask).tolist()
        assert listed(page) == want, query
        assert page.inner_text(".hits").startswith(f"{len(want):,} of {len(mask):,} neuron")
        assert page.locator(".empty").is_visible() == (not want)
        kind = query.removeprefix("class=")
        if kind in options:
            assert options[kind].endswith(f"({len(want):,})")
    asked = {query.removeprefix("class=") for query in expected if query.startswith("class=") and "&" not in query}
    assert asked - {"nothing"} == set(options) - {""}


def test_filters_are_typed_and_the_address_follows(look, html, made):
    page = look(html, "#neurons")
    page.get_by_role("searchbox").fill("␣The")
    page.get_by_label("frequency from").fill("0.5")
    page.get_by_label("layer", exact=True).select_option("1")
    page.wait_for_function("() => location.hash.includes('layer=1')")
    assert page.url.endswith("#neurons?layer=1&low=0.005&text=%E2%90%A3The")
    rows = listed(page)
    page.reload()
    page.wait_for_selector("html[data-shown]")
    assert listed(page) == rows and page.get_by_label("frequency from").input_value() == "0.5"
    page.get_by_role("button", name="Clear").first.click()
    assert len(listed(page)) == len(made.table["layer"])


# Neurons


def context_rows(made: Made) -> Iterator[tuple[int, int]]:
    """(layer, local row) of some neurons that have contexts."""
    for layer in (0, 2):
        starts = made.layers[layer]["context_start"].astype(int)
        yield from [(layer, int(row)) for row in np.flatnonzero(np.diff(starts) > 3)[:3]]


LINES = """[...document.querySelectorAll('.context')].map(line => ({
    marks: [...line.querySelectorAll('[data-at]')].map(mark => Number(mark.dataset.at)),
    centre: ['data-at', 'href'].map(name => line.querySelector('a.centre').getAttribute(name)),
    where: line.querySelector('.where').textContent, text: line.querySelector('p').textContent }))"""


def test_contexts_mark_the_tokens_of_the_mask(look, html, made):
    page = look(html, "#neurons")
    flat, positions = made.tokens.reshape(-1), made.tokens.shape[1]
    spans = dict(
        zip(made.text["passage_first"].tolist(), np.diff(made.text["passage_at"].astype(int)).tolist(), strict=True)
    )
    for wide in (False, True):
        before, after = (40, 23) if wide else (12, 8)
        for layer, local in context_rows(made):
            go(page, f"{layer}.{local}")
            if wide and page.get_attribute("[data-key=w]", "aria-pressed") == "false":
                page.keyboard.press("w")
            of = made.layers[layer]
            start, end = of["context_start"][local : local + 2].astype(int)
            shown = page.evaluate(LINES)
            for k, line in zip(range(start, end), shown, strict=True):
                at = int(of["context_token"][k])
                mask = int(of["context_mask"][k, 0]) | int(of["context_mask"][k, 1]) << 32
                first = max(each for each in spans if each <= at)
                inside = range(max(first, at - before), min(first + spans[first], at + after + 1))
                want = [i for i in inside if mask >> (i - at + 40) & 1]
                assert line["marks"] == want
                assert line["centre"] == [str(at), f"#token/{flat[at]}"]
                label = made.meta["labels"][made.text["label"][at // positions]]
                assert line["where"] == f"{label} {at // positions}:{at % positions}"
                bare = re.sub(r"‹U\+[0-9A-F]+›|[↵⇥▯…]|\s", "", line["text"])
                assert_same_text(bare, made, first, inside)


def assert_same_text(shown: str, made: Made, first: int, inside: range) -> None:
    """Letters of the window's tokens, decoded from the passage's beginning on, are those shown."""
    import codecs

    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    texts = [decoder.decode(made.words[token]) for token in made.tokens.reshape(-1)[first : inside.stop]]
    texts[-1] += decoder.decode(b"", final=True)
    want = "".join(texts[inside.start - first :])
    hidden = r"[\x00-\x20\x7f-\xa0\u200b-\u200c\u200e\u200f\u2028-\u202e\u2066\u3000\ufeff]"
    clean = [re.sub(r"\s|◌|\u200d|‹U\+200D›", "", text) for text in (re.sub(hidden, "", want), shown)]
    assert clean[0] == clean[1]


def test_the_page_of_a_neuron_says_why(look, html, made):
    table, flags = made.table, made.meta["flags"]
    page = look(html, "#neurons")

    def first(flag: str) -> int:
        return int(np.flatnonzero((table["flags"] >> flags.index(flag)) & 1)[1])

    def show(row: int) -> str:
        go(page, f"{table['layer'][row]}.{table['neuron'][row]}")
        return page.inner_text(".why")

    assert "frequency < 3/n = 0.00026% with 95% confidence" in show(first("dead"))
    row = first("unigram_detector_supported")
    text = show(row)
    layer, local = int(table["layer"][row]), int(row - np.flatnonzero(table["layer"] == table["layer"][row])[0])
    of = made.layers[layer]
    span = slice(*of["trigger_start"][local : local + 2].astype(int))
    covered = int(of["on"][span][(of["trigger_n"][span] == 1) & (of["trigger_flags"][span] == 3)].sum())
    assert re.search(r"Token detector\s+yes", text)
    number = int(table["covering"][row, 0])
    assert f"{number} token{'s' * (number > 1)} account" in text
    assert f"({covered:,} of {of['activations_n'][local, 0]:,})" in text
    assert page.locator(".badge.detector.sure", has_text="token detector, well supported").count() == 1
    assert page.locator(".of-length").first.locator("tbody tr").count() == min(
        8, int((of["trigger_n"][span] == 1).sum())
    )
    text = show(first("positional"))
    assert re.search(r"Positional\s+yes", text) and "(above 0.05)" in text
    assert page.locator("aside svg").count() == 1
    row = int(np.flatnonzero(table["label_only"] == 1)[0])
    assert "Active in no other label than prose" in show(row)
    on = made.layers[int(table["layer"][row])]["label_on"][
        row - np.flatnonzero(table["layer"] == table["layer"][row])[0]
    ]
    shown = page.locator("section", has=page.locator("h2", has_text="By label")).locator("tbody tr").all_inner_texts()
    assert [int(line.split("\t")[-1].split(" of ")[0].replace(",", "")) for line in shown] == on.tolist()


def test_links_back_forward_and_neighbours(look, html, made):
    page = look(html, "#neurons?class=positional&sort=-position")
    rows = listed(page)
    names = [f"{made.table['layer'][row]}.{made.table['neuron'][row]}" for row in rows]
    page.locator("a.id").nth(1).click()
    page.wait_for_function("name => document.title.startsWith(name)", arg=f"{names[1]} ")
    assert page.inner_text(".steps").split("\n")[0].startswith(f"← {names[0]}")
    for key, name in (("j", names[2]), ("ArrowRight", names[3]), ("k", names[2])):
        page.keyboard.press(key)
        page.wait_for_function("name => document.title.startsWith(name)", arg=f"{name} ")
        assert page.url.endswith(f"#{name}")
    page.go_back()
    page.wait_for_function("name => document.title.startsWith(name)", arg=f"{names[3]} ")
    for _ in range(3):
        page.go_back()
    page.wait_for_selector("html[data-view=neurons]")
    assert listed(page) == rows
    assert page.evaluate("document.activeElement.textContent") == names[1]  # where one came from
    page.go_forward()
    page.wait_for_function("name => document.title.startsWith(name)", arg=f"{names[1]} ")
    # a slow browser: when it tells of the first step, the address is that of the last
    page.evaluate(
        """names => {
            history.replaceState(null, "", "#neurons?class=positional&sort=-position");
            for (const name of [...names, location.hash.slice(1)]) {
                dispatchEvent(new HashChangeEvent("hashchange", { newURL: location.href.split("#")[0] + "#" + name }));
            }
        }""",
        names[3:0:-1],
    )
    page.wait_for_selector("html[data-view=neurons]")
    assert page.evaluate("document.activeElement.textContent") == names[1]
    wrong = {
        "9.9": "The run has layers 0 to 3",
        "nonsense": "has no “nonsense”",
        "token/999999": "no token",
        "%E0%A4": "no",
    }
    for route, words in wrong.items():
        go(page, route)
        assert words in page.inner_text("main")
    go(page, "")
    assert page.evaluate("document.documentElement.dataset.view") == "overview"


def test_everything_is_reached_by_keys(look, html, made):
    page = look(html)
    page.keyboard.press("?")
    assert page.locator("dialog.help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog.help").is_visible()
    page.keyboard.press("g")
    page.keyboard.type("2.17")
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash === '#2.17'")
    page.keyboard.press("/")
    page.keyboard.type("class")
    page.wait_for_selector("[role=option]")
    token = page.locator("[role=option]").first.get_attribute("data-href")
    page.keyboard.press("ArrowDown")
    chosen = page.locator("[role=option][aria-selected=true]").get_attribute("data-href")
    assert chosen != token
    page.keyboard.press("Enter")
    page.wait_for_function("hash => location.hash === hash", arg=chosen)
    page.keyboard.press("n")
    page.wait_for_selector("html[data-view=neurons]")
    page.locator(".window").focus()
    for _ in range(30):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == "0.29"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == "3.149"
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash === '#3.149'")
    page.keyboard.press("d")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("d")
    assert dark != page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


# Tokens


def test_the_page_of_a_token_lists_the_neurons_that_have_it(look, html, made):
    table = made.table
    token = int(
        table["trigger"][np.flatnonzero((table["flags"] >> made.meta["flags"].index("unigram_detector")) & 1)[0]]
    )
    starts = table["search_start"].astype(int)
    rows = [i for i, (a, b) in enumerate(itertools.pairwise(starts)) if token in table["search_token"][a:b]]
    page = look(html, f"#token/{token}")
    assert page.inner_text(".lead").startswith(f"{len(rows)} neuron")
    more = page.locator("button.more")
    if more.count():
        more.click()
    names = page.locator("tbody a.id").all_inner_texts()
    assert set(names) == {f"{table['layer'][row]}.{table['neuron'][row]}" for row in rows}
    detecting = {f"{table['layer'][row]}.{table['neuron'][row]}" for row in rows if detects(made, row, token)}
    marked = page.locator("tbody tr", has=page.locator(".badge", has_text=re.compile("^detects$")))
    assert set(marked.locator("a.id").all_inner_texts()) == detecting != set()
    page.locator("tbody a.id").first.click()
    page.wait_for_selector("html[data-view=neuron]")


def detects(made: Made, row: int, token: int) -> bool:
    layer = int(made.table["layer"][row])
    of, local = made.layers[layer], row - int(np.flatnonzero(made.table["layer"] == layer)[0])
    return any(
        token in of["trigger_tokens"][k] and of["trigger_flags"][k] & 2
        and made.table["flags"][row] >> made.meta["flags"].index(f"{GRAMS[of['trigger_n'][k] - 1]}_detector") & 1
        for k in range(*of["trigger_start"][local : local + 2].astype(int))
    )  # fmt: skip


def test_hostile_tokens_are_text(look, html, made):
    page = look(html, "#neurons")
    boxes = "ids => ids.map(id => Dom.token(App.run, id, { whole: true })).map(box => [box.textContent, box.title])"
    for data, (text, title) in zip(HOSTILE, page.evaluate(boxes, [*range(1, len(HOSTILE) + 1)]), strict=True):
        assert text == visible(data) and "\u202e" not in title, data
    for id in (1, 2, 3, 11):
        go(page, f"token/{id}")
        assert page.locator("h1").evaluate("node => node.textContent") == visible(HOSTILE[id - 1])
        assert page.locator("main script, main img, main [onmouseover]").count() == 0
    for row in np.flatnonzero((made.table["trigger"] > 0) & (made.table["trigger"] <= len(HOSTILE)))[:5]:
        layer, neuron, token = (int(made.table[name][row]) for name in ("layer", "neuron", "trigger"))
        go(page, f"{layer}.{neuron}")
        shown = page.locator(".of-length .token").first.evaluate("node => node.textContent")
        assert shown == cut(visible(made.words[token]))
        assert page.locator("script").count() == page.evaluate("document.querySelectorAll('body > script').length")
    page.keyboard.press("/")
    page.keyboard.type("onerror=")
    page.wait_for_selector("[role=option]")
    assert page.locator("[role=option] .token").first.evaluate("node => node.textContent") == cut(
        SCRIPT.replace(" ", "␣")
    )


def test_a_character_split_over_tokens_is_shown_once_where_it_ends(look, html, made):
    page = look(html)
    parts = [list(part) for part in (b"a\xf0\x9f", b"\x98", b"\x80b", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf0")]
    texts = page.evaluate("parts => Text.stream(parts.map(part => Uint8Array.from(part)))", parts)
    assert texts == ["a", "", "\U0001f600b", "\ufffd" * 3, "\ufeff", "\ufffd"]


def test_hostile_names_labels_and_series_are_text(look):
    run = make_run(NAMES[0], labels=(SCRIPT, *NAMES[1:]))
    run.meta["facts"].append([SCRIPT, NAMES[0]])
    run.meta["limits"].append(SCRIPT)
    meta, blobs = make_page(run, make_run(NAMES[1], layers=2, seed=3), title=SCRIPT)
    meta["charts"][0]["title"] = meta["charts"][0]["note"] = meta["charts"][0]["y"]["label"] = SCRIPT
    for each in meta["charts"][1]["series"]:
        each["name"] = NAMES[0]
    html = render(meta, blobs)
    head = html[: html.index('<script type="application/json"')]
    assert SCRIPT not in html.split("</style>")[1].split("<script>")[0] and "\u202e" not in html[len(head) :]
    page = look(html)
    assert page.title() == SCRIPT and page.locator("h1").evaluate("node => node.textContent") == SCRIPT
    assert page.locator(".limits p").first.inner_text() == SCRIPT
    page.locator("[data-chart=labels] svg").first.focus()
    page.keyboard.press("ArrowRight")
    assert "‹U+202E›gnp.exe‹U+202C›" in page.inner_text("body") and "\u202e" not in page.inner_text("body")
    for details in page.locator("details").all():
        details.locator("summary").click()
    only = int(np.flatnonzero(run.table["label_only"] == 0)[0])
    go(page, f"{run.table['layer'][only]}.{run.table['neuron'][only]}")
    assert f"only in {SCRIPT}" in page.locator("h1").evaluate("node => node.textContent")
    go(page, f"neurons?class={NAMES[0]}&layer=%3Cimg%3E&text=%3C/script%3E&sort=__proto__")
    assert listed(page) == [] and page.locator(".empty").is_visible()
    assert page.locator("main img, main script").count() == 0


# Runs of all kinds


def test_several_runs_have_their_own_tables_and_neurons(look):
    runs = [make_run("one", layers=3), make_run("two", layers=2, neurons=30, keep=11, bitmaps=False, seed=5)]
    page = look(render(*make_page(*runs, title="both")))
    assert page.locator(".legend", has_text="one").locator("text=two").count() >= 1
    assert page.locator("table.classes").count() == 2
    page.get_by_label("run", exact=True).select_option("1")
    page.wait_for_selector("html[data-shown='2']")
    assert page.url.endswith("#1:overview")
    go(page, "1:neurons?class=dead")
    assert page.inner_text(".hits").startswith(f"{int((runs[1].table['flags'] & 1).sum())} of 22 neurons")
    assert "This page has 22 of 60 neurons" in page.inner_text(".limits")
    layer, neuron = (int(runs[1].table[name][-1]) for name in ("layer", "neuron"))
    go(page, f"1:{layer}.{neuron}")
    assert page.inner_text(".over").endswith("two") and page.locator(".steps a").first.get_attribute("href").startswith(
        "#1:"
    )
    absent = next(i for i in range(30) if i not in runs[1].table["neuron"][runs[1].table["layer"] == 0])
    go(page, f"1:0.{absent}")
    assert "shows only some" in page.inner_text("main") and "This page has 22 of 60" in page.inner_text(".limits")
    alive = np.flatnonzero(np.diff(runs[1].layers[1]["context_start"].astype(int)))[0]
    go(page, f"1:1.{runs[1].table['neuron'][runs[1].table['layer'] == 1][alive]}")
    assert "only those known from samples" in page.inner_text(".neuron")
    assert page.locator(".context").first.locator("mark").count() == 1
    go(page, "2.5")
    assert page.inner_text(".over").endswith("one")


@pytest.mark.parametrize("parts", [("dead",), ("dead", "positions"), ("dead", "ngrams", "contrast")])
def test_a_page_says_what_is_not_analysed(look, parts):
    made = make_run(parts=parts, labels=("all",), layers=2)
    page = look(render(*make_page(made)))
    names = {"ngrams": "n-grams", "positions": "positions", "contrast": "labels", "updates": "what neurons write"}
    missing = page.inner_text("section.counts p.quiet")
    assert {part for part, name in names.items() if name in missing} == set(names) - set(parts)
    for route in ("neurons", "neurons?text=a&sort=-position", "token/5", *(f"1.{i}" for i in range(8))):
        go(page, route)
        assert page.locator(".message").count() == 0
    assert "Not analysed: " in page.inner_text("aside") and "By label" not in page.inner_text("main")


def test_a_damaged_part_is_said_and_the_rest_works(look, made):
    meta, blobs = make_page(made)
    run = meta["runs"][0]
    layer = int(run["blobs"]["layers"]["1"][1:])
    html = render(meta, [*blobs[:layer], blobs[layer][:50] + b"damaged" + blobs[layer][57:], *blobs[layer + 1 :]])
    page = look(html, "#1.3")
    assert f"part b{layer} cannot be unpacked" in page.inner_text(".message")
    go(page, "0.3")
    assert page.locator(".why").count() == 1
    whole = render(meta, blobs)
    data = base64.b64encode(blobs[0]).decode()
    page = look(whole.replace(data, "&" + data[:99]), "#neurons")
    assert "damaged" in page.inner_text(".message")
    go(page, "overview")
    assert page.locator(".chart svg").count() >= 7
    page = look(whole[: whole.index('id="b3"')], "#0.3")  # cut in transfer
    assert "has no part" in page.inner_text(".message")
    page = look(whole.replace('{"format": 1', '{"format": 2', 1))
    assert "format 2 is not known" in page.inner_text(".message")


def test_browsers_that_cannot_unpack_or_run_scripts_are_told(look, html, made):
    page = look(html.replace("<main", "<script>delete window.DecompressionStream</script><main"), "#neurons")
    assert "DecompressionStream" in page.inner_text(".message")


def test_without_scripts_the_facts_are_there(browser, html, made, tmp_path):
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    text = page.inner_text("main")
    assert all(value in text for _, value in made.meta["facts"]) and f"{made.meta['totals']['dead']:,}" in text
    context.close()


# How it looks


def test_it_works_in_the_dark_and_without_motion(look, html):
    page = look(html, "#0.3", color_scheme="dark", reduced_motion="reduce")
    assert page.locator(".why").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    page.emulate_media(color_scheme="light", forced_colors="active")
    assert page.locator(".why").is_visible()


def test_nothing_is_wider_than_the_window(look, html, made):
    page = look(html)
    rows = np.flatnonzero(made.table["flags"])[[0, 5]]
    names = [f"{made.table['layer'][row]}.{made.table['neuron'][row]}" for row in rows]
    routes = ["", "neurons", "token/1", "token/11", "token/200", *names]
    for route in routes:
        go(page, route or "overview")
        for width in (800, 380, 320):
            page.set_viewport_size({"width": width, "height": 700})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (route, width)


def test_it_prints(look, html):
    page = look(html, "#neurons")
    page.emulate_media(media="print")
    assert page.locator(".print-note").is_visible() and not page.locator(".filters").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.window')).overflowY") == "visible"
    go(page, "0.3")
    assert not page.locator("#bar").is_visible() and page.locator(".why").is_visible()
    assert len(page.pdf()) > 10_000


def test_every_table_has_a_caption_and_every_control_a_name(look, html):
    page = look(html)
    for route in ("overview", "neurons", "0.3", "token/200"):
        go(page, route)
        assert (
            page.locator("main table:not([role])").count()
            == page.locator("main table:has(caption):has(th[scope=col])").count()
        )
        named = "each => each.textContent.trim() || each.getAttribute('aria-label') || each.title"
        controls = "[...document.querySelectorAll('button, input, select, a, svg[role=img]')]"
        assert page.evaluate(f"{controls}.every({named})")
