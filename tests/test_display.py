"""What objects look like in a notebook: nothing that comes from data is markup, and all of it is there."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cards import HOSTILE, drawn, with_profiles
from hostile import COUNTS, LAYER, VOCABULARY, draw_hostile, make_hostile
from hypothesis import given, settings
from hypothesis import strategies as st

import neurolens
from neurolens import NeurolensError
from neurolens.analyze import analyze_run
from neurolens.card import Card
from neurolens.certificate import Certificate, LayerParity
from neurolens.context import Context, Contexts
from neurolens.display.html import Html, join, tag, text
from neurolens.display.look import STYLE, spark, token
from neurolens.examples import Example, Examples, Token
from neurolens.plots import FIGURES
from neurolens.plotting import Plot
from neurolens.promotions import Promotions
from neurolens.run import Run, open_run
from neurolens.store import Store
from neurolens.tables import ByLabel, ByLayer, Neurons, Positions, Table
from neurolens.triggers import Triggers

TAGS = {
    "div", "span", "b", "i", "bdi", "small", "style", "pre", "details", "summary", "dl", "dt", "dd", "table", "thead",
    "tbody", "tr", "th", "td", "svg", "rect", "line", "figure", "figcaption",
}  # fmt: skip
NUMBERS = {"width", "height", "x", "y", "x1", "x2", "y1", "y2"}


class Page(HTMLParser):
    """What a browser makes of a view: elements with their attributes, and the texts between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.texts: list[str] = []
        self.fallback = self.style = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/>")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1] == "style":
            self.style += data
        elif self._open[-1] == "pre":
            self.fallback += data
        else:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError("a declaration")

    def handle_pi(self, data: str) -> None:
        raise AssertionError("an instruction")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError("a section")

    @property
    def skeleton(self) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
        """Elements without those that only isolate and mark characters of a text."""
        signs = (("class", "nl-odd"),), (("class", "nl-sign"),)
        return [(tag, attrs) for tag, attrs in self.elements if tag != "bdi" and attrs not in signs]


def checked(html: str) -> Page:
    """The page of a view, of which nothing is but what views are made of."""
    page = Page(html)
    html.encode()
    assert page.style == STYLE and page.fallback
    for tag_, attrs in page.elements:
        assert tag_ in TAGS
        for name, value in attrs:
            if name == "class":
                assert value and all(re.fullmatch("nl-[a-z]+", word) and f".{word}" in STYLE for word in value.split())
            elif name == "style":
                assert value == "display:none" or re.fullmatch(r"width:[\d.]+%", value or "")
            elif name in NUMBERS:
                assert value is not None and float(value) >= 0
            elif name == "aria-label":
                assert re.fullmatch(r"\d+ values from 0 to [\d.e+-]+", value or "")
            elif name == "viewbox":
                assert re.fullmatch(r"0 0 \d+ \d+", value or "")
            else:
                assert (name, value) in {("open", None), ("role", "img"), ("preserveaspectratio", "none")}
    said = "".join(page.texts) + page.fallback.replace("\n", "")
    assert all(c.isprintable() for c in said), [c for c in said if not c.isprintable()][:5]
    assert not re.search(r"https?:|url\(|@import", STYLE)  # nothing is loaded, as no attribute names anything either
    return page


# -- nothing that comes from data is markup ----------------------------------------------------------------------------

texts = st.sampled_from(
    [*HOSTILE, "<img src=x onerror=alert(1)>", "&lt;b&gt;", "]]>", "<!--", "\ud800\udfff", "a\u0301" * 99]
)
texts |= st.text(max_size=60) | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Mn", "Po", "Sm"]), max_size=20)


@given(texts, st.integers(2, 80))
def test_text_says_what_it_is_given(given: str, most: int) -> None:
    page = Page(f"<div>{text(given, most=most)}</div>")
    assert {tag for tag, _ in page.elements} <= {"div", "bdi", "span"}
    said = "".join(page.texts)
    assert said.isprintable()
    plain = "".join(
        {"\n": "⏎", "\t": "⇥", "\r": "\\r"}.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in given
    )
    assert said == plain or (said.endswith("…") and plain.startswith(said[:-1]))
    wide = sum(0 if unicodedata.combining(c) else 1 for c in said)
    assert wide <= most + 1 and (said == plain) >= (len(plain) * 2 <= most)


@given(st.binary(max_size=40))
def test_tokens_show_their_spaces_and_bytes(content: bytes) -> None:
    said = "".join(Page(str(token(content, most=400))).texts)
    assert said.isprintable() and " " not in said
    assert said.count("␣") == content.count(b" ") + content.decode(errors="replace").count("␣")
    assert (b"\xff" not in content) or "\\xff" in said


def test_only_html_is_html() -> None:
    inner = tag("b", "<i>", role="yes")
    assert inner == '<b class="nl-yes">&lt;i&gt;</b>' and isinstance(inner, Html)
    assert tag("div", inner, f"{inner}") == f"<div>{inner}{text(str(inner) + '')}</div>"
    assert join(["<", inner], "&") == f"&lt;&amp;{inner}"
    assert tag("p", open=True, hidden=False, id=None, title='"<') == '<p open title="&quot;&lt;"></p>'


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60) | texts.map(lambda given: given.encode(errors="replace")), texts)
def test_a_card_has_the_same_elements_whatever_tokens_say(content: bytes, said: str) -> None:
    said = said if said not in ("", "other") else "x"
    card, plain = (with_profiles(drawn(*of), text=of[1]) for of in ((content or b"x", said), (b"token", "label")))
    assert checked(card._repr_html_()).skeleton == checked(plain._repr_html_()).skeleton


@settings(deadline=None, max_examples=60)
@given(texts, st.lists(st.tuples(texts, st.sampled_from([True, False, None])), min_size=1, max_size=6), st.data())
def test_contexts_have_the_same_elements_whatever_they_say(
    label: str, tokens: list[tuple[str, bool | None]], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(tokens) - 1))
    tokens[at] = (tokens[at][0], True)

    def shown(texts: list[str], label: str) -> Page:
        parts = "".join(texts[:at]), texts[at], "".join(texts[at + 1 :])
        active = tuple(active for _, active in tokens)
        context = Context(9, 0, 9, label, *parts, False, True, at, tuple(range(len(texts))), tuple(texts), active)
        return checked(Contexts(np.array([9, 9]), lambda indices: [context] * len(indices), total=7, drawn=True,
                                title=label)._repr_html_())  # fmt: skip

    page = shown([said for said, _ in tokens], label)
    assert page.skeleton == shown(["x" if said else "" for said, _ in tokens], "label").skeleton
    assert any("not known" in said for said in page.texts) == (None in [active for _, active in tokens])


def test_tokens_that_fire_are_marked() -> None:
    """Tokens that share a character are one; the token itself is that which has it."""
    context = Context(9, 2, 9, "l", "a", "é", "bc", True, True, 2, (1, 2, 3, 4, 5), ("a", "é", "", "b", "c"),
                      (True, False, True, False, True))  # fmt: skip
    html = Contexts(np.array([9]), lambda indices: [context], total=1, drawn=False)._repr_html_()
    for _ in range(2):  # in the line, and in the whole window
        html = html.replace('<span class="nl-on">a</span>', "[a]", 1)
        html = html.replace('<span class="nl-on nl-here"><bdi>é</bdi></span>', "[[é]]", 1)
        html = html.replace('<span class="nl-on">c</span>', "[c]", 1)
    assert html.count("[a]") == html.count("[[é]]") == html.count("b[c]") == 2
    assert "sequence 2, position 9, token 9" in html


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=300))
def test_bars_are_numbers(values: list[float]) -> None:
    page = Page(str(spark([abs(value) for value in values])))
    bars = [dict(attrs) for tag, attrs in page.elements if tag == "rect"]
    assert len(bars) == sum(0 < abs(value) < float("inf") for value in values)
    assert all(0 < float(bar["height"] or 0) <= 36 for bar in bars)


# -- every object, and what it has not ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is not analysed, in a folder and of a model whose names are markup."""
    path = make_hostile(draw_hostile(), tmp_path_factory.mktemp("display") / "<img src=x>&\x1b[2J.zarr")
    attributes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    attributes["attributes"]["model"] |= {"id": "</style><script>\u202e", "revision": '"><b>'}
    (path / "zarr.json").write_text(json.dumps(attributes), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def path(collected: Path) -> Path:
    copy = shutil.copytree(collected, collected.with_name("analysed<b>.zarr"))
    analyze_run(copy, only=["dead", "ngrams", "positions", "contrast"])
    return copy


@pytest.fixture(scope="module")
def run(path: Path) -> Run:
    return open_run(path)


def tables(run: Run) -> Iterator[Table]:
    yield from (run.neurons, run.by_layer, run.by_layer.overall, run.positions, run.positions.by_layer)
    yield from (run.positions.tiling, run.contrast, run.difference("wiki", "code"), run.triggers(LAYER))


def objects(run: Run) -> Iterator[Any]:
    yield run
    yield from tables(run)
    for neuron in range(len(COUNTS)):
        card = run.neuron(LAYER, neuron)
        yield from (card, card.contexts(), card.contexts(all=True)[3:40:2])


def certificate(flips: int) -> Certificate:
    far = 0.1 if flips else None
    layer = LayerParity(0, 1000, 100, flips, 0, far, far, far, 0.5, 1, 0, 0)
    return Certificate("<b>m</b>", None, "0" * 64, "fp32", "cpu", 1, 2, 8, (0,), 16, "0" * 64, "cpu", {"torch<": "2"},
                       (layer,) * 3)  # fmt: skip


def examples(count: int) -> Examples:
    tokens = tuple(Token(i, i % 2 == 0) for i in range(len(VOCABULARY)))
    each = tuple(Example(1, n, 100, tokens, tokens, ()) for n in range(count))
    return Examples("<i>r</i>", np.arange(2), 2, 100, {}, 9, each, lambda id_: VOCABULARY[id_].decode(errors="replace"))


def test_every_object_shows_itself(run: Run) -> None:
    for each in objects(run):
        page = checked(each._repr_html_())
        assert len(page.texts) > 2 and page.fallback.strip()
    for each in (certificate(0), certificate(7), examples(0), examples(3)):
        checked(each._repr_html_())
    with pytest.raises(AssertionError):  # what is checked for would be found
        checked(run._repr_html_() + "<script></script>")


def test_what_a_run_has_is_there(run: Run, collected: Path) -> None:
    said = "".join(checked(run._repr_html_()).texts)
    for expected in ("960 tokens", "wiki", "\\x1b[2J<b>\\u202e", "</style><script>\\u202e", "not certified",
                     "not updates: neurolens analyze", "token detectors", "positional", "By layer"):  # fmt: skip
        assert expected in said, expected
    assert f"dead 1 of {len(COUNTS)} neurons" in said
    said = " ".join(checked(open_run(collected)._repr_html_()).texts)
    assert "not dead, ngrams, positions, contrast, updates: neurolens analyze" in said and "By layer" not in said


@pytest.mark.parametrize("parts", [["dead"], ["dead", "ngrams"], ["dead", "positions"], ["dead", "contrast"]])
def test_parts_that_are_missing(run: Run, path: Path, tmp_path: Path, parts: list[str]) -> None:
    copy = shutil.copytree(path, tmp_path / "r.zarr")
    store = Store.open(copy, write=True)
    marks = store.attributes("results")
    kept = {part: asked for part, asked in marks["parts"].items() if part in parts}
    store.set_attributes("results", {**marks, "parts": kept})
    shutil.rmtree(copy / "vocabulary")
    store.drop_bits(LAYER)
    some = open_run(copy)
    for each in (some, some.neurons, *(some.neuron(LAYER, neuron) for neuron in range(len(COUNTS)))):
        checked(each._repr_html_())
    said = " ".join(checked(some.neuron(LAYER, 7)._repr_html_()).texts)
    assert ("not analysed; 'neurolens analyze' does that" in said) == ("ngrams" not in parts)
    assert "bits were dropped, so others that were not sampled are not known" in said and "⟨" in said
    checked(replace(some.neuron(LAYER, 7), source=None, positions=None, labels={})._repr_html_())


def test_damage_is_told_in_its_place(run: Run, path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(path, tmp_path / "r.zarr")
    chunk = next(file for file in (copy / "results/by_layer/detectors/c").rglob("*") if file.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-1])
    said = "".join(checked(open_run(copy)._repr_html_()).texts)
    assert "token detectors" not in said and "positional" in said and "results/by_layer/detectors is damaged" in said


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    path = make_hostile(draw_hostile(), tmp_path / "r.zarr")
    store = Store.open(path, write=True)
    wanted = store.progress()
    wanted[0, 3:] = False
    store.unmark(wanted)
    assert "incomplete: 3 of 5 blocks of layers" in " ".join(checked(open_run(path)._repr_html_()).texts)


def test_tables_show_their_ends(run: Run) -> None:
    """Of each column the first and last rows, its type and unit; the others are named."""
    table = Table("r", layers=[0], model_layers=1, n_tokens=7, rules={"<b>": 1}, names=["a<b>", "flag", "word"],
                  coords={"layer": [3], "row": range(20)}, units={"a<b>": "<nats>"},
                  read={"a<b>": np.arange(20.0)[None] / 7, "flag": np.arange(20)[None] % 2 == 0,
                        "word": np.array([f"<w{i}>" for i in range(20)])[None]}.__getitem__)  # fmt: skip
    texts_ = checked(table._repr_html_()).texts
    for i in range(20):
        assert (f"<w{i}>" in texts_) == (i < 5 or i >= 15)
    assert {"a<b>", "<nats>", "float64", "bool", "text", "0.1429", "2.714", "⋮", "<b>"} <= set(texts_)
    empty = Table("r", layers=[], model_layers=1, n_tokens=0, rules={}, coords={"row": []}, names=["a"],
                  read=lambda name: np.zeros(0))  # fmt: skip
    assert "no rows" in checked(empty._repr_html_()).texts
    assert table._ipython_key_completions_() == ["a<b>", "flag", "word"]


def test_columns_are_not_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurolens.display.tables.ENDS", 3)
    neurons = open_run(path).neurons
    asked: list[Any] = []
    read = neurons._read_part
    assert read is not None
    monkeypatch.setattr(neurons, "_read_part", lambda name, index: asked.append(index) or read(name, index))
    page = checked(neurons._repr_html_())
    assert not neurons._columns
    assert {str(index[-1]) for index in asked} == {str(part) for part in (slice(0, 3), slice(6, None), slice(0, 0))}
    assert set(neurons) <= set(page.texts)
    assert neurons.part("frequency", (0, slice(2, 4))).tolist() == neurons["frequency"][0, 2:4].tolist()
    assert all(neurons.dtype(name) == neurons[name].dtype for name in neurons if name not in ("position_type",))


def test_triggers_are_a_mapping_with_text(run: Run) -> None:
    table = run.triggers(LAYER)
    folder = f"results/layers/{LAYER:02d}/triggers"
    assert list(table) == run.store.names(folder) and isinstance(table, Triggers)
    for name, column in table.items():
        assert column.tolist() == run.store.read(f"{folder}/{name}").tolist()
    frame = table.to_pandas()
    assert len(frame) == table.shape[0] > 20 and set(frame) == {*table, "text"}
    for ids, n, said in zip(frame["tokens"], frame["n"], frame["text"], strict=True):
        assert len(ids) == n and said == run.vocabulary.text(ids)
    assert table.to_xarray()["tokens"].dims == ("trigger", "gram")
    assert repr(table).startswith("<Triggers of analysed<b>: ") and f"layer {LAYER}" in repr(table)
    with pytest.raises(KeyError, match="no column 'x'; there are"):
        table["x"]


def test_promotions_show_their_tokens() -> None:
    """Whatever these say; the first and last rows; ids of −1 are none."""
    ids = np.arange(60).reshape(20, 3) % len(VOCABULARY)
    ids[7, 1:] = -1
    columns = {"neuron": np.arange(20) * 3, "projection_mean": np.arange(20) / 8, "promoted": ids,
               "suppressed": ids[::-1], "promoted_projection": -ids / 4,
               "suppressed_projection": ids[::-1] / 4}  # fmt: skip
    header: dict[str, Any] = {"layers": [0, LAYER], "model_layers": 4, "n_tokens": 9, "rules": {"k": 3}}
    table = Promotions("<b>r", layer=LAYER, rows=20, names=[*columns], read=columns.__getitem__, **header,
                       content=lambda ids: b"".join(VOCABULARY[id_] for id_ in ids))  # fmt: skip
    page = checked(table._repr_html_())
    assert {"neuron", "promoted", "suppressed", "projection_mean", "⋮", "57", "2.375"} <= set(page.texts)
    assert "21" not in page.texts  # neuron of row 7
    frame = table.to_pandas()
    assert list(frame) == list(columns) and frame.index.name == "row"
    rows = {name: frame[name].tolist() for name in frame}
    said = tuple(VOCABULARY[id_].decode(errors="replace") for id_ in ids[4])
    assert rows["promoted"][4] == rows["suppressed"][15] == said
    assert rows["promoted"][7] == (VOCABULARY[21 % len(VOCABULARY)].decode(errors="replace"),)
    assert rows["promoted_projection"][7] == (-ids[7, 0] / 4,)
    assert table.to_xarray()["promoted"].dims == ("row", "place")
    assert repr(table).startswith("<Promotions of <b>r: what 20 neurons of layer")
    none = {name: column[:0] for name, column in columns.items()}
    empty = Promotions("r", layer=0, rows=0, names=[*none], read=none.__getitem__, **header, content=lambda ids: b"")
    assert "no neuron" in checked(empty._repr_html_()).texts and len(empty.to_pandas()) == 0


# What JupyterLab 4 says of elements in outputs, shortened
LAB = """
.jp-RenderedHTMLCommon table { border-collapse: collapse; table-layout: fixed; margin-bottom: 1em; }
.jp-RenderedHTMLCommon td, .jp-RenderedHTMLCommon th, .jp-RenderedHTMLCommon tr {
  vertical-align: middle; padding: 0.5em; line-height: normal; white-space: normal; max-width: none; }
:not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon td, :not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon th,
:not(.jp-RenderedMarkdown).jp-RenderedHTMLCommon tr { text-align: right; }
.jp-RenderedHTMLCommon th { font-weight: bold; }
.jp-RenderedHTMLCommon img, .jp-RenderedHTMLCommon svg { max-width: 100%; height: auto; }
.jp-OutputArea-output.jp-RenderedHTMLCommon table { margin-left: 0; margin-right: 0; }
.jp-OutputArea-output dl, .jp-OutputArea-output dt, .jp-OutputArea-output dd { display: block; }
.jp-OutputArea-output dl { width: 100%; overflow: hidden; padding: 0; margin: 0; }
.jp-OutputArea-output dt { font-weight: bold; float: left; width: 20%; padding: 0; margin: 0; }
"""
LOOKS = """() => [...document.querySelectorAll('.nl-view *')].filter(each => each.checkVisibility()).map(each => {
    const style = getComputedStyle(each), box = each.getBoundingClientRect();
    return [each.tagName, each.textContent.slice(0, 20), Math.round(box.x), Math.round(box.width),
            Math.round(box.height), ...(each.tagName === 'TR' ? [] : [style.textAlign, style.fontWeight])];
})"""


def test_views_look_alike_wherever_they_are(run: Run, browser: Any) -> None:
    """In JupyterLab, whose rules for lists, tables and drawings are not ours, as on an empty page."""
    views = [run, run.neurons, run.neuron(LAYER, 7), run.triggers(LAYER), run.neuron(LAYER, 7).contexts()]
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    for each in views:
        looks = []
        for style in ("", LAB):
            body = f'<div class="jp-OutputArea-output jp-RenderedHTMLCommon">{each._repr_html_()}</div>'
            page.set_content(f"<!doctype html><style>{style}</style><body>{body}")
            looks.append(page.evaluate(LOOKS))
        assert len(looks[0]) > 20
        assert [pair for pair in zip(*looks, strict=True) if pair[0] != pair[1]] == []
    page.close()


# -- figures -----------------------------------------------------------------------------------------------------------


def test_figures_are_methods(run: Run, collected: Path) -> None:
    from matplotlib.figure import Figure

    assert dir(run.plot) == sorted(name.replace("-", "_") for name in FIGURES)
    for name in dir(run.plot):
        assert name.isidentifier()
        spec, method = FIGURES[name.replace("_", "-")], getattr(run.plot, name)
        doc = inspect.getdoc(method) or ""
        assert doc.startswith(spec.title) and ("Ours" in doc if spec.paper == "ours" else f"Figure {spec.paper}" in doc)
        assert method.__name__ == name
    assert isinstance(run.plot.dead(), Figure) and isinstance(run.plot.covering_bigrams(run), Figure)
    assert isinstance(run.plot.saturation(points=5), Figure)
    with pytest.raises(NeurolensError, match=r"cannot draw suppression: .* is not analysed for updates"):
        run.plot.suppression()
    with pytest.raises(NeurolensError, match=r"cannot draw dead: .* is not analysed for dead"):
        run.plot.dead(open_run(collected))
    with pytest.raises(AttributeError, match="no figure 'deaths'; there are contrast, covered, "):
        run.plot.deaths  # noqa: B018
    assert not hasattr(run.plot, "_ipython_canary_method_should_not_exist_") and "dead" in repr(run.plot)


def test_a_notebook_loads_nothing_for_it(path: Path, tmp_path: Path) -> None:
    code = f"""
import json, sys, neurolens as nl
run = nl.open({str(path)!r})
card = run.neuron({LAYER}, 7)
for each in (run, run.neurons, run.triggers({LAYER}), card, card.contexts(all=True)):
    assert each._repr_html_()
print("\\n" + json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(neurolens.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert loaded & {"matplotlib", "jinja2", "IPython", "pandas", "xarray", "torch"} == set()


# -- what a tab and a question mark show -------------------------------------------------------------------------------

OBJECTS = (
    Run,
    Card,
    Context,
    Contexts,
    Table,
    Neurons,
    ByLayer,
    Positions,
    ByLabel,
    Triggers,
    Promotions,
    Certificate,
    Examples,
    Plot,
)
OF_PYTHON = {"keys", "items", "values", "get", "index", "count"}  # of every mapping and sequence


@pytest.mark.parametrize("kind", OBJECTS)
def test_public_names_have_docstrings(kind: type) -> None:
    assert inspect.getdoc(kind)
    for name in dir(kind):
        if name.startswith("_") or (name in OF_PYTHON and name not in vars(kind)):
            continue
        found = inspect.getattr_static(kind, name)
        if inspect.isfunction(found) or isinstance(found, property | classmethod | cached_property):
            assert inspect.getdoc(found), f"{kind.__name__}.{name}"


def test_public_attributes_are_explained(run: Run) -> None:
    """In the docstring of the class, or of one that it is of, or of the property that gives it."""
    card = run.neuron(LAYER, 7)
    for each in (card, card.contexts(), card.contexts()[0], *tables(run)):
        docs = " ".join(inspect.getdoc(kind) or "" for kind in type(each).__mro__)
        for name in vars(each):
            known = name.startswith("_") or isinstance(inspect.getattr_static(type(each), name, None), cached_property)
            assert known or re.search(rf"\b{name}\b", docs), f"{type(each).__name__}.{name}"
