"""N-gram detectors of whole runs, from bits on the disk to tables, against a reading of the paper in plain Python.

The oracle below shares no code with neurolens: tuples of tokens cut out of the text, `Counter`s of those that each
neuron is active on, and integers.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import snapshot
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from runs import make_run
from scipy.stats import norm

from neurolens.analyze import analyze_run
from neurolens.corpus import Corpus, pack_documents
from neurolens.detectors import Rules
from neurolens.documents import Document
from neurolens.run import Run, open_run

pytestmark = pytest.mark.usefixtures("hasty")

# a failure is not made smaller: a seed is none the easier to read for it, and each try takes a run
FEW = settings(deadline=None, derandomize=True, max_examples=10, phases=(Phase.explicit, Phase.generate))

EOS = 2
NAMES = ("unigram", "bigram", "trigram", "fourgram", "fivegram")
Gram = tuple[int, ...]


# -- the oracle ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """The paper's thresholds (§4, App. A), and what this project adds: support, and how many to show in any case."""

    tokens: int = 5
    ngrams: int = 50
    coverage: int = 95
    rate: int = 95
    occurrences: int = 1
    support_occurrences: int = 5
    support_activations: int = 100
    top: int = 5

    def rules(self) -> Rules:
        return Rules(
            max_covering=self.tokens,
            max_covering_ngrams=self.ngrams,
            coverage=self.coverage,
            min_rate=self.rate,
            min_occurrences=self.occurrences,
            support_occurrences=self.support_occurrences,
            support_activations=self.support_activations,
        )


@dataclass
class Reading:
    """What is to be found of one neuron and one n."""

    covering: int
    detector: bool
    supported: bool
    covered: set[Gram]  # by a detector; else empty
    well: set[Gram]  # by a well supported one
    rows: list[tuple[Gram, int, int, bool, bool]]  # n-gram, on, total, member, covered
    notes: list[str] = field(default_factory=list)  # what of interest this case has


def cut(tokens: np.ndarray, n: int) -> list[Gram | None]:
    """The n-gram that ends at each token, in corpus order; None where there is none."""
    found: list[Gram | None] = []
    for sequence in tokens.tolist():
        for k in range(len(sequence)):
            gram = tuple(sequence[k - n + 1 : k + 1]) if k >= n - 1 else ()
            found.append(gram if gram and EOS not in gram else None)
    return found


def read_paper(fired: list[Gram | None], total: Counter[Gram], n: int, asked: Asked) -> Reading:
    """One neuron, from the n-grams at the tokens where it is active and how often each n-gram occurs."""
    on = Counter(gram for gram in fired if gram is not None)
    activations = sum(on.values())
    counts = sorted(on.values(), reverse=True)
    number = taken = last = 0
    for count in counts:  # greedy
        if 100 * taken >= asked.coverage * activations:
            break
        number, taken, last = number + 1, taken + count, count
    members = {gram for gram, count in on.items() if count >= last}
    covered = {
        gram for gram in members if 100 * on[gram] >= asked.rate * total[gram] and total[gram] >= asked.occurrences
    }
    well = {gram for gram in covered if total[gram] >= asked.support_occurrences}
    within = 0 < number <= (asked.tokens if n == 1 else asked.ngrams)

    def suffices(grams: set[Gram]) -> bool:
        return within and 100 * sum(on[gram] for gram in grams) >= asked.coverage * activations

    detector, supported = suffices(covered), suffices(well) and activations >= asked.support_activations
    # falling by activations; of equals the one whose last token is smallest, then the one before it, …
    least = counts[: asked.top][-1] if counts else 0
    candidates = [gram for gram in on if on[gram] >= least or (within and gram in members)]
    falling = sorted(candidates, key=lambda gram: (-on[gram], gram[::-1]))
    shown = [gram for i, gram in enumerate(falling) if i < asked.top or (within and gram in members)]
    notes = {
        "detector": detector and not supported,
        "supported": supported,
        "too many": number > (asked.tokens if n == 1 else asked.ngrams),
        "not covered": within and not detector,
        "none": not on,
        "ties in the covering set": within and len(members) > number,
        "ties at the top": len(on) > asked.top and counts[asked.top - 1] == counts[asked.top],
        "singletons": detector and any(total[gram] == 1 for gram in covered),
        "just the coverage": detector and 100 * sum(on[g] for g in covered) < asked.coverage * (activations + 1),
        "just the rate": detector and any(100 * (on[g] - 1) < asked.rate * total[g] > 100 for g in covered),
        "shown beyond the covering set": within and len(shown) > len(members),
        "members not shown": not within and len(members) > asked.top,
    }
    return Reading(
        number,
        detector,
        supported,
        covered if detector else set(),
        well if supported else set(),
        [(gram, on[gram], total[gram], gram in members, gram in covered) for gram in shown],
        [note for note, there in notes.items() if there],
    )


def layer_by_layer(layers: list[list[set[Gram]]]) -> dict[str, list[int]]:
    """From what the detectors of each layer cover, a set a detector: the paper's Figs. 3 and 4."""
    grams = [set().union(*layer) for layer in layers]
    upto = [set().union(*grams[: i + 1]) for i in range(len(grams))]
    return {
        "detectors": [sum(bool(each) for each in layer) for layer in layers],
        "covered": [len(here) for here in grams],
        "new": [len(here - before) for before, here in pairwise([set(), *upto])],
        "new_to_previous": [len(here - before) for before, here in pairwise([set(), *grams])],
        "cumulative": [len(seen) for seen in upto],
    }


def check(run: Run, active: np.ndarray, lengths: int, asked: Asked | None = None) -> Counter[tuple[int, str]]:
    """Every number of the run is the oracle's. `active` bool `(layer, neuron, token)`, corpus order. Counts notes."""
    asked, tokens, seen = asked or Asked(), run.store.read("tokens"), Counter()
    grams = {n: cut(tokens, n) for n in range(1, lengths + 1)}
    totals = {n: Counter(gram for gram in grams[n] if gram is not None) for n in grams}
    readings: dict[int, list[list[Reading]]] = {n: [] for n in grams}
    for row, layer in enumerate(run.store.layers):
        fired = [np.flatnonzero(bits).tolist() for bits in active[row]]
        for n in grams:
            readings[n].append(
                [read_paper([grams[n][k] for k in where], totals[n], n, asked) for where in fired]
            )  # fmt: skip
            for name in ("covering", "detector", "supported"):
                column = {"covering": "s_95", "detector": "_detector", "supported": "_detector_supported"}[name]
                found = run.neurons[NAMES[n - 1] + column][row].tolist()
                assert found == [getattr(reading, name) for reading in readings[n][row]], (layer, n, name)
            seen.update((n, note) for reading in readings[n][row] for note in reading.notes)
        check_triggers(run.triggers(layer), {n: readings[n][row] for n in grams}, lengths)
    for n in grams:
        for support, name in enumerate(("covered", "well")):
            wanted = layer_by_layer([[getattr(reading, name) for reading in layer] for layer in readings[n]])
            for column, values in wanted.items():
                assert run.by_layer[column][support, n - 1].tolist() == values, (column, support, n)
            overall = {column: int(run.by_layer.overall[column][support, n - 1]) for column in ("detectors", "covered")}
            assert overall == {"detectors": sum(wanted["detectors"]), "covered": wanted["cumulative"][-1]}
            seen.update((n, "new before, known now") for a, b in zip(*_new(wanted), strict=True) if a > b)
    assert run.by_layer.shape == (2, lengths, len(run.store.layers))
    return seen


def _new(wanted: dict[str, list[int]]) -> tuple[list[int], list[int]]:
    return wanted["new_to_previous"], wanted["new"]


def check_triggers(table: Mapping[str, np.ndarray], readings: dict[int, list[Reading]], lengths: int) -> None:
    expected = [
        (neuron, n, (-1,) * (lengths - n) + gram, *rest)
        for neuron in range(len(readings[1]))
        for n in readings
        for gram, *rest in readings[n][neuron].rows
    ]
    columns = [table[name].tolist() for name in ("neuron", "n", "tokens", "on", "total", "member", "covered")]
    assert [(neuron, n, tuple(gram), *rest) for neuron, n, gram, *rest in zip(*columns, strict=True)] == expected
    rate, bound = table["on"] / table["total"], table["rate_lower"]
    # Wilson's bound is the rate that what was seen lies 1.645 of its own standard errors above
    assert ((bound <= rate) & (bound > 0)).all()
    np.testing.assert_allclose(rate - bound, norm.ppf(0.95) * np.sqrt(bound * (1 - bound) / table["total"]), atol=1e-9)


# -- what it is asked about ----------------------------------------------------------------------------------------


@dataclass
class Drawn:
    """A corpus, the bits of some layers over it, and how to store and analyse them."""

    corpus: Corpus
    active: np.ndarray
    layers: list[int]
    vocab_size: int
    sequences_per_block: int

    def run(self, path: Path, **options: Any) -> Run:
        make_run(
            path, self.corpus, self.active, layers=self.layers, vocab_size=self.vocab_size,
            sequences_per_block=self.sequences_per_block,
        )  # fmt: skip
        analyze_run(path, only=["ngrams"], **options)
        return open_run(path)


def draw_tokens(rng: np.random.Generator, sequences: int, positions: int, vocabulary: int) -> np.ndarray:
    """Text with common tokens, phrases that come back, tokens that are there once, and documents of any length."""
    phrases = [rng.geometric(0.2, rng.integers(1, 13)) + EOS for _ in range(6)]
    flat: list[int] = []
    while len(flat) < sequences * positions:
        kind = rng.random()
        flat += rng.geometric(0.2, 3).tolist() if kind < 0.3 else phrases[rng.integers(6)].tolist()
        flat += [EOS] * (kind > 0.97) + [int(rng.integers(vocabulary))] * (0.3 < kind < 0.36)
    tokens = np.array(flat[: sequences * positions]).reshape(sequences, positions) % (vocabulary - 2)
    tokens.reshape(-1)[rng.choice(tokens.size, 2, replace=False)] = vocabulary - 1, vocabulary - 2
    tokens[:, 0] = EOS
    tokens[:, 1][tokens[:, 1] == EOS] = EOS + 1
    return tokens


def draw_neuron(rng: np.random.Generator, tokens: np.ndarray, grams: list[list[Gram | None]]) -> np.ndarray:
    """Bool `(token,)`: dead, always on, on at random, on `</s>` alone; on some n-grams, nearly, or a little more."""
    size, kind = tokens.size, rng.choice(["dead", "on", "random", "bos", "some"], p=[0.04, 0.04, 0.2, 0.04, 0.68])
    if kind in ("dead", "on"):
        return np.full(size, kind == "on")
    if kind == "random":
        return rng.random(size) < rng.choice([0.002, 0.02, 0.3, 0.9])
    if kind == "bos":
        return (tokens.reshape(-1) == EOS) & (rng.random(size) < 0.7)
    n = int(rng.integers(1, len(grams) + 1))
    mine = grams[n - 1]
    places: dict[Gram, list[int]] = {}
    for place, gram in enumerate(mine):
        if gram is not None:
            places.setdefault(gram, []).append(place)
    often = sorted((gram for gram in places if len(places[gram]) > 4), key=lambda gram: -len(places[gram]))
    count = int(rng.choice([1, 2, 3, 5, 6] if n == 1 else [1, 3, 20, 50, 51]))
    once = [gram for gram in places if len(places[gram]) == 1]
    few = [often[:12], often, list(places), once][rng.choice(4, p=[0.3, 0.3, 0.3, 0.1])]  # [:12]: favourites of many
    active, missed = np.zeros(size, bool), int(rng.choice([0, 0, 1, 2]))  # always; just at 95%; just not
    for i in rng.permutation(len(few))[:count]:
        where = rng.permutation(places[few[i]])
        active[where[(len(where) * 5 // 100 + missed - 1 if missed else 0) :]] = True
    others = rng.permutation(np.flatnonzero(~active & np.array([gram is not None for gram in mine])))
    spare = int(active.sum()) * 5 // 95  # as much as there may be besides
    active[others[: [0, spare, spare, spare + 1][rng.integers(4)]]] = True
    return active


def draw(seed: int, *, neurons: int = 24, tokens: int = 1400) -> Drawn:
    """Small enough for the oracle, with blocks of which the last one may be short."""
    rng = np.random.default_rng(seed)
    positions = int(rng.choice([6, 8, 12, 16, 24]))
    vocabulary = int(rng.choice([5, 9, 30]))
    sequences = int(rng.integers(tokens // 3, tokens)) // positions
    ids = draw_tokens(rng, sequences, positions, vocabulary)
    grams = [cut(ids, n) for n in range(1, 6)]
    layers = sorted(rng.choice(7, int(rng.choice([1, 3, 4, 4])), replace=False).tolist())
    active = np.stack([[draw_neuron(rng, ids, grams) for _ in range(neurons)] for _ in layers])
    unit = 64 // int(np.gcd(64, positions))
    corpus = Corpus.from_tokens(ids, label=rng.integers(0, 2, sequences), label_names=("a", "b"))
    return Drawn(corpus, active, layers, vocabulary + int(rng.integers(3)), unit * int(rng.integers(1, 5)))


asked_differently = st.builds(
    Asked,
    tokens=st.sampled_from([1, 5, 30]),
    ngrams=st.sampled_from([1, 7, 50, 300]),
    coverage=st.sampled_from([50, 80, 95, 100]),
    rate=st.sampled_from([10, 50, 95, 100]),
    occurrences=st.sampled_from([1, 2, 20]),
    support_occurrences=st.sampled_from([1, 5, 30]),
    support_activations=st.sampled_from([1, 20]),
)


# -- laws ----------------------------------------------------------------------------------------------------------


def test_the_paper_by_hand() -> None:
    """The oracle itself, on a text that can be read: 5 6 | 5 6 7 | 7."""
    tokens = np.array([[2, 5, 6, 2, 5, 6, 7], [2, 7, 7, 7, 7, 7, 7]])
    two = cut(tokens, 2)
    assert two[:7] == [None, None, (5, 6), None, None, (5, 6), (6, 7)] and two[7:9] == [None, None]
    assert cut(tokens, 3)[:7] == [None] * 6 + [(5, 6, 7)]
    totals = Counter(gram for gram in two if gram is not None)
    assert totals == {(5, 6): 2, (6, 7): 1, (7, 7): 5}
    reading = read_paper([two[k] for k in (0, 2, 5, 6, 9)], totals, 2, replace(Asked(), support_occurrences=2))
    assert reading.covering == 3 and not reading.detector
    assert reading.rows == [((5, 6), 2, 2, True, True), ((6, 7), 1, 1, True, True), ((7, 7), 1, 5, True, False)]
    reading = read_paper([two[2], two[5], two[6]], totals, 2, Asked())
    assert reading.detector and not reading.supported and reading.covered == {(5, 6), (6, 7)}
    assert layer_by_layer([[{(5, 6)}, {(5, 6), (6, 7)}, set()], [], [{(5, 6)}, {(7, 7)}]]) == {
        "detectors": [2, 0, 2], "covered": [2, 0, 2], "new": [2, 0, 1], "new_to_previous": [2, 0, 2],
        "cumulative": [2, 2, 3],
    }  # fmt: skip


def test_a_run_is_read_as_the_paper_says(tmp_path_factory: pytest.TempPathFactory) -> None:
    seen: Counter[tuple[int, str]] = Counter()

    @settings(FEW)
    @given(seed=st.integers(0, 2**20), lengths=st.sampled_from([5, 5, 5, 3, 2, 1]))
    def compare(seed: int, lengths: int) -> None:
        drawn = draw(seed)
        run = drawn.run(tmp_path_factory.mktemp("oracle") / "r.zarr", lengths=lengths)
        seen.update(check(run, drawn.active, lengths))

    compare()
    # the law has been held where it matters: every reading for every n, ties, singletons, and both edges of 95%
    always = ["detector", "too many", "not covered", "none", "ties in the covering set", "ties at the top"]
    always += ["singletons", "just the coverage", "just the rate", "members not shown"]
    assert not [(n, kind) for n in range(1, 6) for kind in always if not seen[n, kind]], seen
    for kind in ("supported", "shown beyond the covering set", "new before, known now"):
        assert sum(seen[n, kind] > 0 for n in range(1, 6)) > 2, (kind, seen)


@settings(FEW, max_examples=6)
@given(asked=asked_differently, lengths=st.sampled_from([1, 3, 5]))
@example(Asked(coverage=50, rate=10, support_occurrences=30, support_activations=1), 5)  # supported, but not by all
def test_other_thresholds(stored: tuple[Drawn, Path], asked: Asked, lengths: int) -> None:
    """The same run, analysed again and again: what is in it is what was asked last."""
    drawn, path = stored
    analyze_run(path, only=["ngrams"], lengths=lengths, rules=asked.rules())
    check(open_run(path), drawn.active, lengths, asked)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Drawn, Path]:
    drawn = replace(draw(11), layers=[1, 4])
    drawn.active = drawn.active[[0, -1]]
    path = tmp_path_factory.mktemp("thresholds") / "r.zarr"
    drawn.run(path)
    return drawn, path


@pytest.mark.parametrize("seed", [1])
def test_blocks_and_stretches_of_neurons_change_no_byte(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block or many, all neurons at once or one by one: the same results, contexts and counts."""
    drawn, unit = draw(seed), 64 // int(np.gcd(64, draw(seed).corpus.shape[1]))
    found, stretches = [], []
    ways = [(unit * 999, 1 << 21, 1 << 21), (unit, 1 << 21, 1), (unit * 2, 1, 1), (unit * 3, 1, 999)]
    for sequences_per_block, chunk_bytes, read_bytes in ways:
        monkeypatch.setattr("neurolens.bitmaps.CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr("neurolens.bitmaps.READ_BYTES", read_bytes)
        drawn.sequences_per_block = sequences_per_block
        run = drawn.run(tmp_path / f"{sequences_per_block}.zarr", lengths=5)
        stretches.append(len(run.store.neuron_chunks()))
        found.append({**snapshot(run.path / "results"), **snapshot(run.path / "counts")})
    assert stretches[:3] == [1, 1, run.store.neurons] and 1 < stretches[3] < run.store.neurons
    assert len(run.store.blocks) > 1 and all(each == found[0] for each in found)


@pytest.mark.parametrize("seed", [3])
def test_the_order_of_sequences_changes_nothing(seed: int, tmp_path: Path) -> None:
    """Blocks with other sequences in them, in another order: the same n-grams. Only which came first is another."""
    drawn = draw(seed)
    before = drawn.run(tmp_path / "before.zarr", lengths=5)
    sequences, positions = drawn.corpus.shape
    order = np.random.default_rng(seed).permutation(sequences)
    places = np.arange(sequences * positions).reshape(sequences, positions)[order].reshape(-1)
    drawn.corpus = Corpus.from_tokens(
        drawn.corpus.tokens[order], label=drawn.corpus.label[order], label_names=drawn.corpus.label_names
    )
    drawn.active = drawn.active[:, :, places]
    after = drawn.run(tmp_path / "after.zarr", lengths=5)
    # which sequences form a group is told by their order, and intervals by the groups
    intervals = {name for name in before.neurons if name.endswith(("_low", "_high"))}
    assert intervals == {"frequency_low", "frequency_high"}
    for name in set(before.neurons) - {"first_active"} - intervals:
        np.testing.assert_array_equal(before.neurons[name], after.neurons[name], name)
    for layer in drawn.layers:
        tables = before.triggers(layer), after.triggers(layer)
        assert {name: values.tolist() for name, values in tables[0].items()} == {
            name: values.tolist() for name, values in tables[1].items()
        }
    for name in before.by_layer:
        np.testing.assert_array_equal(before.by_layer[name], after.by_layer[name], name)


def test_sequences_shorter_than_the_longest_ngram(tmp_path: Path) -> None:
    """No n-gram of that length is there: covering number 0, no detector, no row."""
    tokens = np.array([[2, 5, 6, 5]] * 16 + [[2, 5, 2, 6]] * 3)
    active = np.random.default_rng(0).random((1, 9, tokens.size)) < np.linspace(0, 1, 9)[None, :, None]
    drawn = Drawn(Corpus.from_tokens(tokens), active, [0], 7, 16)
    run = drawn.run(tmp_path / "r.zarr", lengths=5)
    check(run, active, 5)
    assert not run.neurons["fourgrams_95"].any() and set(run.triggers(0)["n"].tolist()) == {1, 2, 3}


def test_the_embedded_model(tmp_path: Path) -> None:
    """Every neuron of two layers of the demonstration's model, on a piece of the kind of text it knows."""
    from neurolens.checkpoint import Checkpoint
    from neurolens.collect import collect
    from neurolens.demo.demonstrate import MODEL

    text = Path(argparse.__file__).read_text(encoding="utf-8")
    documents = [Document(part, "code", 0, i) for i, part in enumerate(text[:20_000].split("\n\n"))]
    corpus = pack_documents(documents, Checkpoint(MODEL).encoder(), positions=256, tokens=768)
    collect(MODEL, corpus, tmp_path / "r.zarr", batch_tokens=512, block_tokens=512, layers=[0, 2])
    analyze_run(tmp_path / "r.zarr", only=["ngrams"])
    run = open_run(tmp_path / "r.zarr")
    order, size = run.store.read("order"), run.store.n_tokens
    active = np.zeros((len(run.store.layers), run.store.neurons, size), bool)
    for row, layer in enumerate(run.store.layers):
        bits = np.unpackbits(run.store.read(f"layers/{layer:02d}/active"), axis=1, bitorder="little")
        active[row][:, order] = bits[:, :size]
    seen = check(run, active, 3)
    assert all(seen[n, kind] for n in (1, 2, 3) for kind in ("detector", "too many", "ties in the covering set"))
