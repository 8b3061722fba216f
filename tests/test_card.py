"""The card of a neuron: its numbers are those of planted neurons, its lines are lines whatever the tokens say."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cards import FOUND, HOSTILE, Made, drawn, with_profiles
from conftest import POSITIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import IncompleteError, NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.bootstrap import Bootstrap, draw_groups
from neurolens.card import Card
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.context import Context
from neurolens.corpus import Corpus
from neurolens.profile import Contrast, Dependence, Kind, Profile, Range, Rate, label_lines
from neurolens.run import Run, open_run
from neurolens.sparkline import draw_bars, find_top, pool
from neurolens.terminal import cells, cut, padded, pieces, quoted, running, wrapped
from neurolens.testing import BOS, Planted, PlantedNeuron, planted_opt
from neurolens.verdict import Trigger, Verdict, count, percent

ANSI = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return planted_opt(tmp_path_factory.mktemp("card") / "model", layers=1)


@pytest.fixture(scope="module")
def run_path(planted: Planted) -> Path:
    """An analysed run of the planted model, with updates of its detectors."""
    path = planted.folder.parent / "planted.zarr"
    corpus = Corpus.from_tokens(planted.tokens, label=planted.label, label_names=planted.label_names)
    collect(planted.folder, corpus, path)
    analyze_run(path)
    return path


@pytest.fixture(scope="module")
def run(run_path: Path) -> Run:
    return open_run(run_path)


@pytest.fixture(scope="module")
def cards(planted: Planted, run: Run) -> list[tuple[PlantedNeuron, Card]]:
    """One neuron of each kind, of each missed rule, and of each number of triggers, with its card."""
    found = {(n.kind, n.misses, n.n, len(n.triggers)): n for n in planted.neurons if n.layer == 0}
    assert len(found) > 30
    return [(neuron, run.neuron(0, neuron.neuron)) for neuron in found.values()]


@pytest.fixture
def copy(run_path: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run_path, tmp_path / "copy.zarr")


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `neurolens neuron` prints; it must succeed."""

    def show(*arguments: object) -> str:
        capsys.readouterr()
        assert neurolens(["neuron", *map(str, arguments)]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return show


# -- what it says --------------------------------------------------------------------------------------------------


def test_numbers_are_the_planted_ones(planted: Planted, cards: list[tuple[PlantedNeuron, Card]]) -> None:
    truth = planted.truth()
    for neuron, card in cards:
        at = neuron.layer, neuron.neuron
        assert (card.layer, card.neuron) == at
        bits = planted.active(neuron.layer)[neuron.neuron].reshape(planted.tokens.shape)
        assert card.activations == bits.sum() and card.frequency == bits.mean()
        assert card.activations_on_text == (bits & (planted.tokens != BOS)).sum()
        assert (card.dead, card.dead_but_bos) == (truth["dead"][at], truth["dead_but_bos"][at])
        assert {name: (rate.on, rate.total) for name, rate in card.labels.items()} == {
            name: (bits[planted.label == i].sum(), (planted.label == i).sum() * bits.shape[1])
            for i, name in enumerate(planted.label_names)
        }
        assert card.positions is not None and card.positions.activations == tuple(bits.sum(0))
        assert card.positions.frequency == pytest.approx(bits.mean(0))
        assert [verdict.n for verdict in card.ngrams] == [1, 2, 3]
        for verdict in card.ngrams:
            expected = planted.verdict(neuron, verdict.n)
            assert verdict.covering == expected.number
            assert verdict.activations == (expected.activations if card.activations_on_text else None) or verdict.n == 1
            assert (verdict.detector, verdict.supported) == (expected.detector, expected.supported)
            found = {one.tokens: (one.on, one.total) for one in verdict.triggers if one.member}
            wanted = dict(zip(expected.members, zip(expected.on, expected.total, strict=True), strict=True))
            assert verdict.covering > verdict.limit or found == wanted
            if verdict.detector:
                assert {one.tokens for one in verdict.triggers if one.covered} == set(expected.covered)
            assert all(one.text == "".join(f" t{token}" for token in one.tokens) for one in verdict.triggers)
            assert [one.on for one in verdict.triggers] == sorted((one.on for one in verdict.triggers), reverse=True)


def test_checks_are_the_rules(cards: list[tuple[PlantedNeuron, Card]]) -> None:
    """Up to the first rule that fails: of a near miss the one it was planted to miss."""
    failing = {"number": "covering", "rate": "covered", "coverage": "covered"}
    missed = set()
    for neuron, card in cards:
        for verdict in card.ngrams:
            checks = verdict.checks(card.rules)
            held = [check.rule for check in checks if check.holds]
            assert held == ["covering", "covered", "support"][: len(held)] and len(checks) - len(held) <= 1
            assert (verdict.detector, verdict.supported) == ("covered" in held, "support" in held)
            assert all("\n" not in check.why for check in checks)
            if verdict.n == neuron.n and neuron.misses in failing:
                assert checks[-1].rule == failing[neuron.misses] and not checks[-1].holds
                missed.add(neuron.misses)
    assert missed == set(failing)


def test_shares_are_counted(planted: Planted, run: Run) -> None:
    (neuron,) = planted.near_misses("coverage", layer=0, n=1)[:1]
    verdict = run.neuron(0, neuron.neuron).ngrams[0]
    expected = planted.verdict(neuron)
    on = sum(on for gram, on in zip(expected.members, expected.on, strict=True) if gram in expected.covered)
    assert percent(on / expected.activations) == "94.0%"
    why = [check.why for check in verdict.checks(run.neurons.rules)]
    members, covered = len(expected.members), len(expected.covered)
    assert why == [
        f"{count(expected.number, 'token')} {'accounts' if expected.number == 1 else 'account'} for 95% of its "
        f"{expected.activations:,} activations (at most 5)",
        f"{covered} of {members} covered (active on ≥ 95% of occurrences): 94.0% of its activations (at least 95%)",
    ]


def test_support_is_told_from_the_paper() -> None:
    """Of 100 activations 60 on a token seen 60 times, 35 on one seen 35 times, 4 on one seen 4 times."""
    rows = [(60, 60, True), (35, 35, True), (4, 4, True), (1, 50, False)]
    found = [Trigger((i,), b"x", on, total, 0.5, i < 3, covered) for i, (on, total, covered) in enumerate(rows)]
    rules = {"coverage": 95, "min_rate": 95, "min_occurrences": 1, "support_occurrences": 5, "support_activations": 100}
    verdict = Verdict(1, 2, 5, 100, True, True, tuple(found))
    assert [check.why for check in verdict.checks(rules)] == [
        "2 tokens account for 95% of its 100 activations (at most 5)",
        "3 of 3 covered (active on ≥ 95% of occurrences): 99.0% of its activations (at least 95%)",
        "those seen ≥ 5 times: 95.0% of its activations (at least 95%); 100 activations (at least 100)",
    ]
    stricter = verdict.checks({**rules, "support_occurrences": 36, "min_occurrences": 3})
    assert "occurrences and seen ≥ 3 times)" in stricter[1].why and "≥ 36 times: 60.0% of" in stricter[2].why
    least = verdict.checks({**rules, "support_occurrences": 35})
    assert "≥ 35 times: 95.0% of" in least[2].why
    nothing = Verdict(2, 0, 50, 0, False, False, ()).checks(rules)
    assert [(check.holds, check.why) for check in nothing] == [(False, "it is active on no bigram")]
    edge = Verdict(3, 51, 50, None, False, False, ()).checks(rules)
    assert [check.why for check in edge] == ["51 trigrams account for 95% of its activations (at most 50)"]


def test_contexts_are_activations(planted: Planted, cards: list[tuple[PlantedNeuron, Card]]) -> None:
    active = planted.active(0)
    for neuron, card in cards:
        bits = active[neuron.neuron]
        contexts = card.contexts()
        assert len(contexts) == min(16, bits.sum()) == len({context.index for context in contexts})
        for context in contexts:
            assert bits[context.index]
            assert divmod(context.index, planted.tokens.shape[1]) == (context.sequence, context.position)
            assert context.label == planted.label_names[planted.label[context.sequence]]
            ids = planted.tokens[context.sequence].tolist()
            words = ["</s>" if token == BOS else f"t{token}" for token in ids]
            assert context.token.strip() == words[context.position]
            before, after = words[: context.position], words[context.position + 1 :]
            assert context.starts == (context.position <= 48) and context.ends == (len(after) <= 24)
            assert context.before.split() == before[-48:] and context.after.split() == after[:24]


def test_updates_are_the_planted_projections(
    planted: Planted, run: Run, cards: list[tuple[PlantedNeuron, Card]]
) -> None:
    truth = planted.truth()
    suppressing = set()
    for neuron, card in cards:
        at = neuron.layer, neuron.neuron
        if not truth["positional"][at] and not any(verdict.detector for verdict in card.ngrams):
            assert card.update is None and "not projected" in card.missing
            assert all(one.projection is one.rank is None for each in card.ngrams for one in each.triggers)
            continue
        assert card.update is not None and card.update.source == "run"
        values = planted.projection[at].astype(float)
        for end, order in ((card.update.promoted, np.argsort(-values)), (card.update.suppressed, np.argsort(values))):
            assert [token.id for token in end] == order[:10].tolist()
            np.testing.assert_allclose([token.projection for token in end], values[order[:10]], atol=1e-4)
            assert [token.text for token in end] == [run.vocabulary.token(i) for i in order[:10]]
        for each in card.ngrams:
            for one in each.triggers:
                assert one.projection == pytest.approx(values[one.tokens[-1]], abs=1e-4)
                assert one.rank == (values < values[one.tokens[-1]]).sum()
        expected = truth["suppresses_triggers"][at]
        assert card.update.suppresses == (None if expected < 0 else bool(expected))
        if expected >= 0:
            assert card.update.projection == pytest.approx(truth["trigger_projection"][at], abs=1e-4)
            assert card.update.projection_centred == pytest.approx(truth["trigger_projection_centred"][at], abs=1e-4)
            does = "suppresses its triggers" if expected else "does not suppress its triggers"
            assert any(does in line for line in card.lines())
        suppressing.add(int(expected))
    assert suppressing == {-1, 0, 1}


def test_positional_neurons_are_the_planted_ones(planted: Planted, run: Run) -> None:
    """Type and strength are those planted; in ranges of a strong one its bits are all alike, beside the outer parts."""
    found = [neuron for neuron in planted.neurons if neuron.position_type]
    assert len({(neuron.position_type, neuron.position_strength) for neuron in found}) == 8
    for neuron in found:
        card = run.neuron(0, neuron.neuron)
        assert card.positions is not None and card.positions.kind is not None and card.positions.dependence is not None
        kind = card.positions.kind
        assert (kind.type, kind.strength) == (neuron.position_type, neuron.position_strength)
        assert f"positional neuron ({kind.type.replace('_', ' ')}, {kind.strength})" in card.classes
        low, high = card.positions.dependence.low, card.positions.dependence.high
        assert low is not None and high is not None and low <= card.positions.dependence.corrected <= high
        assert card.positions.dependence.corrected > card.positions.threshold == 0.05
        frequency = np.array(card.positions.frequency)
        assert (kind.period is None) == (kind.phase is None) == (kind.type != "oscillatory") == (len(kind.ranges) < 4)
        for each in kind.ranges:
            inside = frequency[each.first + 1 : each.stop - 1]
            assert ((inside > 0.5) == each.always).all() and each.n % planted.tokens.shape[0] == 0
            assert kind.strength == "weak" or abs(inside.mean() - each.always) < 0.05
        assert ("nearly" in str(card)) == (kind.strength == "weak" and kind.type != "other")
    others = [run.neuron(0, neuron.neuron) for neuron in planted.neurons[:20] if not neuron.position_type]
    assert not any(card.positions is None or card.positions.kind for card in others) and others


def test_labels_are_the_planted_ones(planted: Planted, cards: list[tuple[PlantedNeuron, Card]]) -> None:
    bits = planted.active(0).reshape(-1, *planted.tokens.shape)
    names, said = planted.label_names, set()
    for neuron, card in cards:
        active = [name for i, name in enumerate(names) if bits[neuron.neuron][planted.label == i].any()]
        assert card.contrast is not None
        assert card.contrast.only == (active[0] if len(active) == 1 else None)
        silent = set(names) - set(active)
        assert card.contrast.silent == (*silent, None)[0] if len(silent) == 1 else card.contrast.silent is None
        for text, label, supported in card.contrast.tell("of one label ({})", "silent in one label ({})"):
            assert text.format(label) + (", well supported" if supported else "") in card.classes
            said.add((text, supported))
        for rate in card.labels.values():
            assert (rate.low is None) == (rate.high is None) == (rate.on in (0, rate.total))
            assert rate.low is None or rate.high is None or 0 <= rate.low <= rate.frequency <= rate.high <= 1
    assert {text for text, _ in said} == {"of one label ({})", "silent in one label ({})"}


def test_intervals_by_label_are_resampled_groups(run: Run) -> None:
    """Some neuron's interval, from what the store has counted by group and label, one replicate after the other."""
    total, asked = run.store.read("counts/total/group_label"), run.parts["dead"]["bootstrap"]
    groups = draw_groups(total.sum(1), Bootstrap(**asked))
    for neuron in (20, 95):
        on = run.store.read("counts/layers/00/group_label", neuron).astype(float)
        for i, rate in enumerate(run.neuron(0, neuron).labels.values()):
            shares = [(drawn * on[:, i]).sum() / (drawn * total[:, i]).sum() for drawn in groups.weights]
            low, high = groups.interval(np.array(rate.frequency), np.array(shares))
            if rate.low is not None:
                assert (rate.low, rate.high) == pytest.approx((max(0, low), min(1, high)))


def test_what_is_computed_is_what_analyze_would_store(
    planted: Planted, copy: Path, run: Run, cards: list[tuple[PlantedNeuron, Card]]
) -> None:
    from neurolens.checkpoint import Checkpoint
    from neurolens.projection import Unembedding

    analyze_run(copy, every=True)
    stored = open_run(copy)
    projector = Unembedding(Checkpoint(planted.folder), run.vocabulary.real)
    for neuron, card in cards:
        if card.update is not None:
            continue
        expected = stored.neuron(0, neuron.neuron)
        found = run.neuron(0, neuron.neuron, projector=lambda: projector)
        assert found.update is not None and expected.update is not None and expected.update.source == "run"
        assert [t.id for t in found.update.promoted] == [t.id for t in expected.update.promoted]
        assert [t.id for t in found.update.suppressed] == [t.id for t in expected.update.suppressed]
        assert found.update.suppresses == expected.update.suppresses
        for name in ("mean", "projection", "projection_centred"):
            assert getattr(found.update, name) == pytest.approx(getattr(expected.update, name), abs=1e-5)
        for mine, other in zip(found.ngrams, expected.ngrams, strict=True):
            for one, two in zip(mine.triggers, other.triggers, strict=True):
                assert one.rank == two.rank and one.cosine == pytest.approx(two.cosine, abs=1e-5)
                assert one.projection_centred == pytest.approx(two.projection_centred, abs=1e-5)


def test_without_bits_the_card_is_still_there(planted: Planted, run: Run, copy: Path) -> None:
    (neuron,) = planted.of("bigram_detector", 0)[:1]
    before = run.neuron(0, neuron.neuron)
    shutil.rmtree(copy / "layers")
    after = open_run(copy).neuron(0, neuron.neuron)
    assert [verdict.activations for verdict in after.ngrams] == [before.activations_on_text, None, None]
    assert after.ngrams[1].triggers == before.ngrams[1].triggers
    assert [replace(each, active=()) for each in after.contexts()] == [
        replace(each, active=()) for each in before.contexts()
    ]
    checks = after.ngrams[1].checks(after.rules)
    assert [check.holds for check in checks[:2]] == [True, True] and "at least 95% of all" in checks[1].why


def test_a_character_split_over_tokens_is_whole(tiny_model: Path, tmp_path: Path) -> None:
    """A byte-level tokenizer without merges: each emoji is four tokens, and a neuron is active on some of them."""
    path = tmp_path / "r.zarr"
    collect(tiny_model, [(("ab 🦖 → é " * 3 + "xy") * 30, "text")], path)  # a sequence each: none begins in a character
    analyze_run(path, only=["ngrams"])
    run = open_run(path)
    cards = [run.neuron(1, neuron) for neuron in range(10)]
    marked = {context.token for card in cards for context in card.contexts()}
    assert {"🦖", "é"} <= marked and not any("�" in token for token in marked)
    assert all(context.token in "ab 🦖 → é xy </s>" for card in cards for context in card.contexts())
    assert all("�" not in context.before[1:] + context.after[:-1] for card in cards for context in card.contexts())
    lone = {quoted(one.content, 20) for card in cards for one in card.ngrams[0].triggers if "�" in one.text}
    assert lone <= {f'"\\x{byte:02x}"' for byte in "🦖→é".encode()} and lone


# -- how it is printed ---------------------------------------------------------------------------------------------


def test_a_card_prints_itself(planted: Planted, run: Run) -> None:
    (neuron,) = planted.of("unigram_detector", 0)[:1]
    card = run.neuron(0, neuron.neuron)
    lines = str(card).splitlines()
    assert lines == card.lines() == repr(card).splitlines()
    assert lines[0].startswith(f"neuron 0.{neuron.neuron} of planted: ") and lines[0].endswith("on 9,216 tokens")
    assert any(line.startswith("class       token detector") for line in lines)
    assert [lines[i + 1] for i, line in enumerate(lines) if not line] == [
        next(line for line in lines if line.startswith(head))
        for head in ("tokens", "bigrams", "trigrams", "positions", "contexts", "writes")
    ]
    assert max(map(cells, lines)) <= 100


def test_dead_neurons_say_how_sure_that_is(planted: Planted, run: Run) -> None:
    (neuron,) = planted.of("dead", 0)[:1]
    card = run.neuron(0, neuron.neuron)
    text = str(card)
    assert (
        card.classes == ["dead"] and "class       dead" in text and "contexts" not in text and "\n\ntokens" not in text
    )
    assert "active on none of 9,216 tokens; with 95% confidence it fires on less than 1 in 3,077" in text  # ln(20)
    assert card.to_dict()["frequency_upper_bound"] == pytest.approx(1 / 3077, rel=1e-3)
    (neuron,) = planted.of("dead_but_bos", 0)[:1]
    card = run.neuron(0, neuron.neuron)
    assert card.classes == ["dead but for </s>"] and "all of them </s>" in str(card) and "« </s>»" in str(card)
    assert card.to_dict()["frequency_upper_bound"] is None


def test_colour_adds_nothing_else(cards: list[tuple[PlantedNeuron, Card]]) -> None:
    for _, card in cards:
        painted = card.lines(paint=lambda role, text: f"\x1b[1m{text}\x1b[0m")
        assert [ANSI.sub("", line) for line in painted] == card.lines() != painted
        assert not any("\x1b" in line for line in card.lines())


def test_as_much_as_is_asked_for(cards: list[tuple[PlantedNeuron, Card]]) -> None:
    card, verdict = max(
        ((card, each) for _, card in cards for each in card.ngrams), key=lambda pair: len(pair[1].triggers)
    )
    assert sum("«" in line for line in card.lines(contexts=3)) == 3
    assert not any("«" in line or "contexts" in line for line in card.lines(contexts=0))
    less = len(verdict.triggers) - 4
    assert less > 40 and f"  and {less} {verdict.word}s more" in card.lines(rows=4)
    assert sum("% " in line and '"' in line for line in card.lines(rows=1000, contexts=0)) == sum(
        len(verdict.triggers) for verdict in card.ngrams
    )


SENTENCES = (
    "  ✓ 1 token accounts",
    "  ✓ 1 of 1 covered",
    "  ✗ those seen",
    "writes",
    "  suppresses its",
)  # as they are
texts = st.sampled_from(HOSTILE) | st.text(max_size=60)


@settings(deadline=None)
@given(st.binary(max_size=200) | texts.map(str.encode), texts, st.integers(72, 120))
def test_whatever_tokens_say_lines_are_lines(content: bytes, text: str, width: int) -> None:
    card = with_profiles(drawn(content, text), text=text)
    lines = card.lines(width=width)
    for line in lines:
        assert line.isprintable() and "\x1b" not in line
        assert wide(line) <= width or line.startswith(SENTENCES)
    plain = json.loads(json.dumps(card.to_dict(), allow_nan=False))
    assert plain["ngrams"][0]["triggers"][0]["text"] == content.decode(errors="replace")
    assert plain["contexts"][0]["before"] == text and plain["model"] == text
    assert plain["contrast"]["only"] == text and plain["classes"][-1] == f"of one label ({text}), well supported"


def test_a_card_for_an_eye() -> None:
    card = drawn(b" \xf0\x9f\xa6\x96\xff", "code")
    card = replace(card, source=Made(Context(9, 0, 9, "code", "x = '", "🦖", "'\n\treturn", True, False)))
    assert card.lines() == [
        "neuron 3.1072 of code: code on 1,000 tokens",
        "frequency   2.0%, 1 token in 50: active on 20 tokens",
        "  by label  code 4.0%  other 0%",
        "class       token detector",
        "",
        "tokens",
        "  ✓ 1 token accounts for 95% of its 20 activations (at most 5)",
        "  ✓ 1 of 1 covered (active on ≥ 95% of occurrences): 100% of its activations (at least 95%)",
        "  ✗ those seen ≥ 5 times: 100% of its activations (at least 95%); 20 activations (at least 100)",
        "     active        of    rate  at least  projected   rank    ✓ covered",
        '         20        21   95.2%     80.0%     -0.500      0    ✓ " 🦖\\xff"',
        "",
        "contexts    1 of 20 activations, at random",
        "  code  x = '«🦖»'⏎⇥return…",
        "",
        "writes      its value vector, projected on 1,000 tokens; rank 0 is the most suppressed",
        "  suppresses its triggers: mean projection -0.500, -0.600 centred; below 0 for 1 of 1",
        '  promotes   " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05',
        *['             " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05'],
        *['             " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05'],
        '  suppresses " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05',
        *['             " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05'],
        *['             " 🦖\\xff"* -1.0e-05  " 🦖\\xff"* -1.0e-05'],
        "             * a covered trigger's last token",
    ]


def test_positions_and_labels_for_an_eye() -> None:
    card = with_profiles(drawn(b"x", "code"), curve=(5, 10, 0, 1, 0, 9))
    lines = card.lines(width=80)
    assert lines[2:6] == [
        "  by label  code 4.0%  other 0%",
        "            mutual information 0.312 nats; corrected 0.3 (0.281 to 0.33);",
        "            p < 1e-12; active in code only (well supported)",
        "class       token detector; positional neuron (oscillatory, strong);",
    ]
    start = lines.index("positions   P(active) at 6 positions; 50.0% at 0")
    assert lines[start + 1 : start + 12] == [
        "      100% │ █   ▅",
        "           │ █   █",
        "           │██   █",
        "        0% │██ ▃ █",
        "            0    5",
        "  ✓ positional: oscillatory, strong; mutual information 0.312 nats;",
        "    corrected 0.3 (0.281 to 0.33); p < 1e-12; period 64.2, phase 12.0;",
        "    mean correlation of the labels' curves 0.97;",
        "    of this type and strength in 98.1% of resamplings",
        "    always  0–31",
        "    never   32–63",
    ]


# -- positions and labels ------------------------------------------------------------------------------------------


def heights(bars: list[str]) -> list[int]:
    """Eighths of each column; a column has no gap, and is widest at its foot."""
    blocks = " ▁▂▃▄▅▆▇█"
    found = []
    for column in zip(*bars, strict=True):
        upward = [blocks.index(block) for block in reversed(column)]
        full = sum(block == 8 for block in upward)
        assert upward[:full] == [8] * full and not any(upward[full + 1 :])
        found.append(sum(upward))
    return found


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.01, 1), st.integers(1, 6))
def test_bars_are_as_high_as_shares(shares: list[float], top: float, rows: int) -> None:
    bars = draw_bars(shares, top, rows)
    assert len(bars) == rows and {len(line) for line in bars} == {len(shares)}
    for share, height in zip(shares, heights(bars), strict=True):
        assert (height == 0) == (share == 0) and (height == 8 * rows) == (share >= top)
        if 0 < share < top:
            assert abs(height - 8 * rows * share / top) <= 0.5 + 1e-6 or height in (1, 8 * rows - 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=300), st.integers(2, 100))
def test_places_share_columns(counts: list[tuple[int, int]], columns: int) -> None:
    on, total = [min(pair) for pair in counts], [max(pair) for pair in counts]
    step, shares = pool(on, total, columns)
    assert len(shares) <= columns
    if len(on) <= columns:
        assert step == 1 and shares == [a / b if b else 0 for a, b in zip(on, total, strict=True)]
    else:
        assert len(shares) == 1 + -(-(len(on) - 1) // step) and 1 + (columns - 1) * (step - 1) < len(on)
        assert shares[0] == on[0] / max(1, total[0])
        last = slice(1 + (len(shares) - 2) * step, None)
        assert shares[-1] == sum(on[last]) / max(1, sum(total[last]))


@pytest.mark.parametrize(
    ("shares", "top"),
    [
        ([], 1),
        ([0], 1),
        ([0.2], 0.2),
        ([0, 0, 0], 1),
        ([1, 0, 0], 1),
        ([0.1, 0, 0], 0.1),
        ([1, 0.1, 0.2], 0.2),  # the first is drawn as high as the scale
        ([0, 0.5], 0.5),
        ([0, 0.51], 1),
    ],
)
def test_scale_ends(shares: list[float], top: float) -> None:
    assert find_top(shares) == top


@pytest.mark.parametrize("positions", [1, 2, 3, 7, 60, 61, 64, 255, 256, 2048, 10_000])
@pytest.mark.parametrize("width", [72, 100, 120])
def test_curves_fit(positions: int, width: int) -> None:
    """A constant curve, one that is 0 but at position 0, and a threshold."""
    for curve, (first, middle, last) in (
        ((3,) * positions, (32, 32, 32)),
        ((3, *[0] * (positions - 1)), (32, 0, 0)),
        ((0, *[0] * (positions // 2), *[9] * (positions - 1 - positions // 2)), (0, None, 29)),
    ):
        plot = Profile(curve, (10,) * positions).lines(width)
        assert len(plot) == 6 and max(map(cells, plot)) <= width
        bars = [line[12:] for line in plot[1:5]]
        found = heights([line.ljust(max(map(len, bars))) for line in bars])
        columns = len(plot[5]) - 12
        assert columns == positions if 3 <= positions <= width - 12 else columns <= width - 12
        if positions > 2:
            found += [0] * (columns - len(found))  # blanks at the end of lines are not printed
            assert (found[0], found[-1]) == (first, last) and middle in (None, found[columns // 2])
        assert plot[5].split() == [str(place) for place in sorted({0, positions - 1})]
        assert plot[4].startswith("        0% │")
        assert ("a column" in plot[0]) == (positions > width - 12)


def test_what_is_not_positional() -> None:
    weak = Dependence(0.004, 0.00213, None, None, 0.4, True)
    lines = Profile((1, 2), (9, 9), weak, None, 0.05).lines(100)
    assert lines[6:] == [
        "  ✗ not positional; mutual information 0.004 nats; corrected 0.00213 (at most 0.05);",
        "    p 0.4 (rough: few activations, or silences, in each)",
    ]
    card = drawn(b"x", "code")
    card = replace(card, ngrams=(), positions=Profile((1, 2), (9, 9), weak, None, 0.05))
    assert card.classes == [] and "class       not positional" in card.lines()
    card = replace(card, ngrams=(replace(drawn(b"x", "code").ngrams[0], detector=False),))
    assert "class       no detector; not positional" in card.lines()
    dead = replace(card, rate=Rate(0, 1000), activations_on_text=0)
    assert not any("│" in line or "positional" in line for line in dead.lines())
    plain = dead.to_dict()["positions"]
    assert plain["frequency"] == (1 / 9, 2 / 9) and plain["dependence"]["p"] == 0.4 and plain["kind"] is None
    assert replace(card, positions=None).to_dict()["positions"] is None


def test_weak_ones_are_nearly_so_and_ranges_are_cut() -> None:
    many = tuple(Range(8 * i, 8 * i + 4, bool(i % 2), 0.96, 9) for i in range(100))
    kind = Kind("both_extremes", "weak", None, None, None, 0.5, many)
    lines = Profile((1, 2), (9, 9), FOUND, kind, 0.05).lines(72)
    always, never = lines[-2:]
    assert any(line.startswith("  ✓ positional: both extremes, weak;") for line in lines)
    assert always.startswith("    nearly always  8–11, 24–27, 40–43, ") and never.startswith(
        "    nearly never   0–3, 16–19, "
    )
    assert re.fullmatch(r"    nearly always  (\d+–\d+, )+\d+–\d+…", always) and cells(always) <= 72
    assert not any("period" in line or "labels" in line for line in lines)


def test_labels_that_a_neuron_is_of() -> None:
    rates = {"math": Rate(5, 50, 0.05, 0.2), "a\x1bb": Rate(0, 50), "c": Rate(50, 50)}
    assert label_lines({"math": Rate(1, 2)}, None, 80) == []
    assert label_lines(rates, None, 80) == ["  by label  math 10.0% (5.0–20.0%)  a\\x1bb 0%  c 100%"]
    silent = Contrast(replace(FOUND, low=None), None, False, "a\x1bb", False)
    assert label_lines(rates, silent, 150)[1:] == [
        " " * 12 + "mutual information 0.312 nats; corrected 0.3; p < 1e-12; "
        "never in a\\x1bb, though in every other label (not well supported)"
    ]
    both = Contrast(FOUND, "x", False, "y", False)
    assert both.tell("{} only", "never {}") == [("{} only", "x", False)]  # the same, said once
    card = replace(with_profiles(drawn(b"x", "code"), text="a{}b"), ngrams=())
    assert card.classes == ["positional neuron (oscillatory, strong)", "of one label (a{}b), well supported"]
    assert card.to_dict()["labels"]["code"] == {
        "activations": 20,
        "tokens": 500,
        "frequency": 0.04,
        "frequency_low": None,
        "frequency_high": None,
    }


def test_colour_of_positions_adds_nothing_else() -> None:
    card = with_profiles(drawn(b"x", "code"))
    painted = card.lines(width=72, paint=lambda role, text: f"\x1b[1m{text}\x1b[0m")
    assert [ANSI.sub("", line) for line in painted] == card.lines(width=72)
    assert sum("\x1b[1m✓\x1b[0m positional" in line for line in painted) == 1


# -- text in a terminal --------------------------------------------------------------------------------------------


def wide(text: str) -> int:
    """Cells, counted in another way than cells does."""
    return sum(
        0 if unicodedata.category(c)[0] == "M" and unicodedata.combining(c) else
        2 if unicodedata.east_asian_width(c) in ("W", "F") else 1
        for c in text
    )  # fmt: skip


@given(st.lists(st.text(max_size=3), max_size=30), st.integers(0, 20), st.booleans(), st.booleans())
def test_cut(text: list[str], width: int, more: bool, last: bool) -> None:
    done, whole = cut(text, width, more=more, last=last), "".join(text)
    assert cells(done) <= width
    if not more and cells(whole) <= width and len(text) <= 4 * width:
        assert done == whole
    elif width:
        kept = done[1:] if last else done[:-1]
        assert (done[0] if last else done[-1]) == "…"
        ends = ["".join(text[i:]) if last else "".join(text[: len(text) - i]) for i in range(len(text) + 1)]
        assert kept in ends, "a piece is cut in two"


def test_cells_and_pieces() -> None:
    assert [cells(text) for text in ("", "abc", "日本", "e\u0301", "🦖", "«⏎…»")] == [0, 3, 4, 1, 2, 4]
    assert pieces("a\x1b\u202e\ud800\U000e0001 ") == ["a", "\\x1b", "\\u202e", "\\ud800", "\\U000e0001", " "]
    assert "".join(running("a\r\nb\n\tc\r")) == "a⏎b⏎⇥c\\r"
    assert quoted(b' "\\\n\xe2\x82', 99) == '" \\"\\\\\\n\\xe2\\x82"'
    assert quoted(b"abcdefghijkl", 10) == '"abcdefg…"' and padded("日", 4) == "日  "
    assert wrapped("  a ", ["bcd", "ef", "g"], 10) == ["  a bcd", "    ef  g"]
    assert wrapped("a ", [], 10) == ["a "]
    assert [percent(x) for x in (0, 1e-7, 0.00994, 0.5, 0.9999, 1)] == [
        "0%",
        "1e-05%",
        "0.99%",
        "50.0%",
        "99.9%",
        "100%",
    ]


# -- the command ---------------------------------------------------------------------------------------------------


def test_the_command_prints_the_card(planted: Planted, run: Run, run_path: Path, shown: Callable[..., str]) -> None:
    (neuron,) = planted.of("trigram_detector", 0)[:1]
    name = f"0.{neuron.neuron}"
    assert shown(run_path, name).splitlines() == run.neuron(0, neuron.neuron).lines()
    assert shown(run_path, name, "--contexts", 2, "--triggers", 1).splitlines() == run.neuron(0, neuron.neuron).lines(
        rows=1, contexts=2
    )
    card: dict[str, Any] = json.loads(shown(run_path, name, "--json"))
    assert (card["layer"], card["neuron"], card["run"]) == (0, neuron.neuron, "planted")
    assert card["classes"] and card["classes"][-1].startswith("trigram detector")
    assert [gram["n"] for gram in card["ngrams"]] == [1, 2, 3] and card["rules"]["max_covering_ngrams"] == 50
    assert [check["rule"] for check in card["ngrams"][2]["checks"]][:2] == ["covering", "covered"]
    assert {tuple(one["tokens"]) for one in card["ngrams"][2]["triggers"] if one["covered"]} >= set(neuron.triggers)
    assert card["ngrams"][2]["triggers"][0]["rate"] <= 1 and len(card["contexts"]) == 16
    assert len(card["update"]["promoted"]) == 10 and card["update"]["source"] == "run"
    assert len(card["positions"]["frequency"]) == 64 and card["positions"]["dependence"]["p"] <= 1
    assert card["frequency_low"] < card["frequency"] < card["frequency_high"] and card["design_effect"] > 0
    assert card["contrast"]["dependence"]["low"] < card["contrast"]["dependence"]["high"]


def other(planted: Planted) -> PlantedNeuron:
    """A neuron that analyze does not project: no detector of any length, nor positional."""
    truth = planted.truth()
    kinds = [truth[f"{gram}_detector"] for gram in ("unigram", "bigram", "trigram")]
    projected = np.any([*kinds, truth["positional"]], axis=0)
    layer, neuron = np.argwhere(~projected & (truth["activations_on_text"] > 0))[0]
    return next(n for n in planted.neurons if (n.layer, n.neuron) == (layer, neuron))


def test_what_the_run_lacks_comes_from_the_checkpoint(
    planted: Planted, run_path: Path, copy: Path, tmp_path: Path, shown: Callable[..., str]
) -> None:
    neuron = other(planted)
    name = f"{neuron.layer}.{neuron.neuron}"
    values = planted.projection[neuron.layer, neuron.neuron]
    card = json.loads(shown(run_path, name, "--json"))
    assert card["update"]["source"] == "checkpoint" and card["update"]["suppresses"] is None
    assert [token["id"] for token in card["update"]["suppressed"]] == np.argsort(values)[:10].tolist()
    rank = {one["tokens"][-1]: one["rank"] for gram in card["ngrams"] for one in gram["triggers"]}
    assert rank == {token: (values < values[token]).sum() for token in rank} and rank
    # gone, moved, another
    attributes = json.loads((copy / "zarr.json").read_text())
    attributes["attributes"]["model"]["id"] = str(tmp_path / "gone")
    (copy / "zarr.json").write_text(json.dumps(attributes))
    (line,) = [line for line in shown(copy, name).splitlines() if line.startswith("writes")]
    assert "not projected in this run, nor can it be now: no model folder" in line
    assert shown(copy, name, "--model", planted.folder).splitlines()[1:] == shown(run_path, name).splitlines()[1:]
    moved = shutil.copytree(planted.folder, tmp_path / "gone")
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps({**config, "dropout": 0.5}))
    (line,) = [line for line in shown(copy, name).splitlines() if line.startswith("writes")]
    assert "is not the one the run was made with" in line
    assert neurolens(["neuron", str(copy), name, "--model", str(moved)]) == 2
    assert neurolens(["neuron", str(copy), name, "--model", str(tmp_path / "absent")]) == 2


def test_nothing_is_fetched(
    planted: Planted, copy: Path, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    neuron = other(planted)
    name = f"{neuron.layer}.{neuron.neuron}"
    attributes = json.loads((copy / "zarr.json").read_text())
    attributes["attributes"]["model"] |= {"id": "facebook/opt-none", "revision": "0123abc"}
    (copy / "zarr.json").write_text(json.dumps(attributes))

    def fetch(*arguments: object, **kwargs: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("neurolens.hub._snapshot", fetch)
    assert "the hub's cache has no facebook/opt-none any more; fetch it with --model" in shown(copy, name)
    monkeypatch.setattr("neurolens.hub.cached_folder", lambda repository, revision: planted.folder)
    assert json.loads(shown(copy, name, "--json"))["update"]["source"] == "checkpoint"


def test_fold_norm_is_that_of_the_run(
    planted: Planted, copy: Path, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from neurolens.projection import Unembedding

    asked = []

    def unembedding(*arguments: Any, **kwargs: Any) -> Unembedding:
        asked.append(kwargs["fold_norm"])
        return Unembedding(*arguments, **kwargs)

    monkeypatch.setattr("neurolens.projection.Unembedding", unembedding)
    neuron = other(planted)
    name = f"{neuron.layer}.{neuron.neuron}"
    shown(copy, name)
    analyze_run(copy, fold_norm=True)
    asked.clear()
    card = json.loads(shown(copy, name, "--json"))
    assert card["update"]["fold_norm"] and card["update"]["source"] == "checkpoint" and asked == [True]
    assert "the final LayerNorm's gain folded in" in shown(copy, name)


def test_a_run_without_vocabulary_shows_ids(planted: Planted, copy: Path, shown: Callable[..., str]) -> None:
    shutil.rmtree(copy / "vocabulary")
    (neuron,) = planted.of("unigram_detector", 0)[:1]
    text = shown(copy, f"0.{neuron.neuron}")
    assert all(f'"⟨{token}⟩"' in text for (token,) in neuron.triggers) and "projected on the vocabulary;" in text


def test_parts_of_an_analysis(copy: Path, shown: Callable[..., str]) -> None:
    analyze_run(copy, only=["dead", "ngrams"], lengths=1)
    assert open_run(copy).neuron(0, 20).ngrams[-1].n == 1 and open_run(copy).neuron(0, 20).update is None
    for name in ("ngrams", "positions", "contrast", "updates"):
        attributes = json.loads((copy / "results" / "zarr.json").read_text())
        attributes["attributes"]["parts"].pop(name, None)
        (copy / "results" / "zarr.json").write_text(json.dumps(attributes))
    text = shown(copy, "0.20")
    assert "n-grams     not analysed" in text and "contexts" in text and "\ntokens" not in text
    assert "P(active) at 64 positions" in text and "mutual information" not in text and "class       not dead" in text


def test_labels_that_are_not_counted_by_group(run: Run, copy: Path) -> None:
    """Of very many labels: activations and tokens are there, intervals are not."""
    shutil.rmtree(copy / "counts/layers/00/group_label")
    found, expected = open_run(copy).neuron(0, 20).labels, run.neuron(0, 20).labels
    assert found == {name: replace(rate, low=None, high=None) for name, rate in expected.items()} != expected


@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [
        (2, "3", "'3' is no neuron; expected LAYER.NEURON, for example 3.1072"),
        (2, "a.b", "is no neuron"),
        (2, "1.2.3", "is no neuron"),
        (2, "1.٣", "is no neuron"),
        (2, "1.", "is no neuron"),
        (2, "7.0", "has no layer 7; it has 0"),
        (2, "0.128", "has no neuron 128; its layers have 0 to 127"),
        (2, "0.999999999", "has no neuron 999999999"),
        (2, "99999.0", "is no neuron"),
    ],
)
def test_bad_names(
    code: int, name: str, expected: str, run_path: Path, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "0.128":
        width = planted.projection.shape[1]
        name, expected = f"0.{width}", f"has no neuron {width}; its layers have 0 to {width - 1}"
    assert neurolens(["neuron", str(run_path), name]) == code
    out, err = capsys.readouterr()
    assert out == "" and expected in err.strip().splitlines()[-1] and "Traceback" not in err


def test_runs_that_cannot_be_looked_at(
    tiny_model: Path, tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert neurolens(["neuron", str(tmp_path / "absent.zarr"), "0.0"]) == 1
    tokens = np.full((2, POSITIONS), 9, np.int32)
    tokens[:, 0] = 2
    collect(tiny_model, Corpus.from_tokens(tokens), tmp_path / "r.zarr")
    capsys.readouterr()
    assert neurolens(["neuron", str(tmp_path / "r.zarr"), "0.0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not analysed" in line and "neurolens analyze" in line
    chunk = next(path for path in (copy / "results/contexts/c").rglob("*") if path.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    assert neurolens(["neuron", str(copy), "0.20"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "results/contexts is damaged" in line


def test_python_raises_what_the_command_says(run: Run, copy: Path) -> None:
    for layer, neuron in ((7, 0), (0, -1), (0, 10**6)):
        with pytest.raises(UsageError, match="has no"):
            run.neuron(layer, neuron)

    def fails() -> Any:
        raise IncompleteError("no weights here")

    card = run.neuron(0, 0, projector=fails)
    assert card.missing == "its value vector is not projected in this run, nor can it be now: no weights here"
    with pytest.raises(NeurolensError):
        open_run(copy / "results").neuron(0, 0)
