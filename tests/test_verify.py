"""verify: every kind of damage is named as what it is and as nothing else; mending brings back the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import POSITIONS, snapshot
from damage import edit, flip, named, rewrite, times

from neurolens import NeurolensError, UsageError
from neurolens.analyze import analyze_run
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.locks import lock
from neurolens.parts import PARTS
from neurolens.store import Store
from neurolens.verify import verify_run

pytestmark = pytest.mark.usefixtures("hasty")

SEQUENCES = 21
LAYERS = (0, 2)


def corpus() -> Corpus:
    rng = np.random.default_rng(3)
    tokens = rng.integers(4, 260, (SEQUENCES, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    tokens[3, 7] = 2
    return Corpus.from_tokens(tokens, label=np.arange(SEQUENCES) % 2, label_names=("a\x1b[31m\nb", "c"))


def recollect(model: Path, path: Path) -> None:
    """The one command that the runs here are made with."""
    collect(model, corpus(), path, layers=LAYERS, batch_tokens=4 * POSITIONS, block_tokens=8 * POSITIONS)


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a collected run of three blocks, the last with bits beyond its end; the same analysed)."""
    folder = tmp_path_factory.mktemp("verify")
    recollect(tiny_model, folder / "r.zarr")
    shutil.copytree(folder / "r.zarr", folder / "analysed.zarr")
    analyze_run(folder / "analysed.zarr")
    return folder / "r.zarr", folder / "analysed.zarr"


@pytest.fixture
def collected(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(made[0], tmp_path / "r.zarr")


@pytest.fixture
def analysed(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(made[1], tmp_path / "r.zarr")


# -- sound runs ----------------------------------------------------------------------------------------------------


def test_a_sound_run_is_sound_and_untouched(analysed: Path, tiny_model: Path) -> None:
    before, stood = snapshot(analysed.parent), times(analysed)
    for mend in (False, True):
        found = verify_run(analysed, mend=mend)
        assert not found.damages and found.complete and found.exit_code == 0 and not found.mended and not found.redo
        assert found.remarks == ("not certified",)
        titles = [line.split(":")[0] for line in found.checks]
        assert titles == [
            "attributes", "marks of results", "schema", "chunks", "text", "order", "vocabulary", "results", "checkpoint"
        ]  # fmt: skip
        assert times(analysed) == stood
    after = snapshot(analysed.parent)
    assert after.pop("r.zarr.log") == b"" and after == before  # the lock of --mend


def test_unanalysed_incomplete_and_without_vocabulary(collected: Path, tmp_path: Path) -> None:
    rewrite(collected, "progress", lambda marks: marks.__setitem__((1, 2), 0))
    (collected / "layers/02/active/c/0/2").unlink()  # without a mark it need not be there
    shutil.rmtree(collected / "vocabulary")
    found = verify_run(collected)
    assert not found.damages and not found.complete and found.exit_code == 0
    assert "not analysed" in found.remarks and any("5 of 6 blocks" in line for line in found.remarks)
    assert [*found.lines()][-1].endswith("sound, and incomplete")


def test_a_part_of_the_analysis_and_longer_ngrams(collected: Path) -> None:
    analyze_run(collected, only=["ngrams"], lengths=5)
    found = verify_run(collected)
    assert not found.damages and "not analysed for positions, contrast, updates" in found.remarks
    shutil.rmtree(collected / "layers/02/active")  # dropped once they are counted
    found = verify_run(collected)
    assert not found.damages and any("layers/02/active: the bits are gone" in line for line in found.remarks)


def test_what_is_no_run_or_is_being_written(collected: Path, tmp_path: Path) -> None:
    with pytest.raises(NeurolensError, match="no run at"):
        verify_run(tmp_path / "absent.zarr", mend=True)
    assert not (tmp_path / "absent.zarr.log").exists()
    with lock(collected):
        for mend in (False, True):
            with pytest.raises(NeurolensError, match="by another process"):
                verify_run(collected, mend=mend)
    with pytest.raises(UsageError, match="no model folder"):
        verify_run(collected, model="no-such/model")


# -- damage --------------------------------------------------------------------------------------------------------

CHUNKS = (
    "layers/02/active/c/0/1", "tokens/c/0/0", "order/c/2", "label/c/0", "document_start/c/0", "document_source/c/0/0",
    "layer/c/0", "vocabulary/bytes/c/0", "counts/layers/00/position/c/0/0", "counts/total/group/c/0",
    "results/contexts/c/0/0/0", "results/neurons/frequency_low/c/0/0", "results/neurons/label_mi/c/0/0",
    "results/layers/02/triggers/rank/c/0", "results/layers/00/triggers/on/c/0", "results/positions/curve/c/0/0",
    "results/contrast/only/c/0/0", "results/by_layer/new/c/0/0/0", "results/positions/ranges/first/c/0",
)  # fmt: skip


def test_a_byte_flipped_in_each_kind_of_chunk(analysed: Path) -> None:
    chunks = [chunk for chunk in CHUNKS if (analysed / chunk).exists()]
    assert len(chunks) >= len(CHUNKS) - 2  # no positional neuron, no chunk
    for chunk in chunks:
        flip(analysed / chunk)
    found = verify_run(analysed)
    assert named(found) == set(chunks) and found.exit_code == 1
    mends = {damage.path: damage.mends for damage in found.damages}
    assert mends["tokens/c/0/0"] == mends["order/c/2"] == "collect into another output"
    assert "--mend', then the same 'neurolens collect'" in mends["layers/02/active/c/0/1"]
    assert mends["results/contrast/only/c/0/0"].endswith(f"--mend', then 'neurolens analyze {analysed}'")


def test_chunks_and_arrays_that_are_missing_or_cut(analysed: Path) -> None:
    (analysed / "layers/00/active/c/0/2").unlink()
    (analysed / "progress/c/0/1").unlink()
    cut = analysed / "results/neurons/activations/c/0/0"
    cut.write_bytes(cut.read_bytes()[:-7])
    (analysed / "counts/total/label/c/0").write_bytes(b"")
    shutil.rmtree(analysed / "results/neurons/position_p")
    (analysed / "results/neurons/label_p/zarr.json").write_text("{")
    (analysed / "results/positions/zarr.json").unlink()
    edited = analysed / "results/neurons/dead/zarr.json"
    edited.write_text(edited.read_text().replace('"bool"', '"uint8"'))
    found = verify_run(analysed)
    assert {damage.path: damage.found.split(" (")[0] for damage in found.damages} | {
        "results/neurons/activations/c/0/0": "", "counts/total/label/c/0": ""
    } == {
        "layers/00/active/c/0/2": "missing",
        "progress/c/0/1": "missing",
        "results/neurons/activations/c/0/0": "",
        "counts/total/label/c/0": "",
        "results/neurons/position_p": "missing",
        "results/neurons/label_p": "unreadable zarr.json",
        "results/positions/zarr.json": "missing or unreadable",
        "results/neurons/dead": "uint8",
    }  # fmt: skip


TRIGGERS, KINDS = "results/layers/02/triggers/neuron", "results/positions/overall/count"
COUNTS = "counts/layers/02/position"


def _swap(values: np.ndarray) -> None:
    values[[3, 4]] = values[[4, 3]]


# array, what is changed, path of the damage, what undoes it; those of a group say nothing of one another
WRONG = {
    "progress": [
        ("progress", lambda v: v.__setitem__((0, 1), 7), "progress/c/0/1", "block"),
        ("tokens", lambda v: v[4].__setitem__(9, v[4, 9] ^ 1), "tokens", None),
        ("vocabulary/start", lambda v: v.__setitem__(3, 999), "vocabulary/start", None),
        (COUNTS, lambda v: v[9].__setitem__(3, v[9, 3] + 1), COUNTS, "dead"),
        (TRIGGERS, lambda v: v.__setitem__(0, 71), TRIGGERS, "ngrams"),
        (KINDS, lambda v: v.__setitem__((0, 0), 9), KINDS, "positions"),
    ],
    "end": [
        ("layers/00/active", lambda v: v[5].__setitem__(-1, v[5, -1] | 128), "layers/00/active/c/0/2", "bits"),
        ("order", _swap, "order", None),
        ("document_start", lambda v: v.__setitem__(3, v[3] + 1), "document_start", None),
        ("counts/total/label", lambda v: v.__setitem__(0, v[0] + 1), "counts/total/label", "dead"),
        ("results/contrast/layer", lambda v: v.__setitem__(0, 9), "results/contrast/layer", "contrast"),
    ],
    "votes": [
        ("layers/00/active", lambda v: v[5].__setitem__(3, v[5, 3] ^ 8), "layers/00/active", "layer"),
        ("layer", lambda v: v.__setitem__(0, 1), "layer", None),
        ("results/neurons/activations", lambda v: v[1].__setitem__(3, 1), "results/neurons/activations", "dead"),
    ],
}


@pytest.mark.parametrize("group", WRONG)
def test_values_that_are_wrong_under_right_checksums(group: str, analysed: Path) -> None:
    for name, change, *_ in WRONG[group]:
        rewrite(analysed, name, change)
    found = verify_run(analysed)
    assert sorted(damage.path for damage in found.damages) == sorted(path for *_, path, _ in WRONG[group])
    undo = {damage.path: damage.undo for damage in found.damages}
    for *_, path, part in WRONG[group]:
        assert part in undo[path] if part else not undo[path]


def test_what_does_not_belong_there(analysed: Path) -> None:
    (analysed / "notes\x1b[31m.txt").write_text("x")
    (analysed / "layers/02/active/c/0/99").write_text("x")
    (analysed / "tokens/zarr.json.0123.partial").write_text("x")
    analysed.with_name("r.zarr.making").mkdir()
    found = verify_run(analysed)
    assert not found.damages and found.exit_code == 0
    said = "\n".join(found.remarks)
    assert "layers/02/active/c/0/99: a file that is not" in said and "1 file *.partial" in said
    assert "r.zarr.making: left by" in said and len(found.remarks) == 5


@pytest.mark.parametrize(
    "attributes",
    [
        {"layers": ["a"]},
        {"layers": [2, 0]},
        {"neurons": "many"},
        {"neurons": True},
        {"block_sequences": 0},
        {"block_sequences": 7},
        {"label_names": [1]},
        {"model": {"id": 5, "config": {}}},
        {"model": {"id": "x", "revision": None, "config": {"vocab_size": -1}}},
        {"corpus_notes": None},
    ],
)
def test_hostile_attributes(attributes: dict, collected: Path) -> None:
    edit(collected, "", **attributes)
    found = verify_run(collected)
    assert named(found) == {"zarr.json"} and found.exit_code == 1
    assert {damage.mends for damage in found.damages} == {"collect into another output"}


def test_attributes_of_another_run(collected: Path) -> None:
    edit(collected, "", neurons=80, label_names=["a", "c"])
    found = verify_run(collected)
    assert named(found) == {"layers/00/active", "layers/02/active", "tokens"}
    edit(collected, "", neurons=72, label_names=["a\x1b[31m\nb", "c"])
    (collected / "tokens/zarr.json").write_text("{")
    assert named(verify_run(collected)) == {"tokens"}


def test_marks_that_cannot_be_meant(analysed: Path) -> None:
    parts = Store.open(analysed).attributes("results")["parts"]
    edit(analysed, "results", parts={**parts, "ngrams": {"lengths": 99}, "x\x1b": 1})
    found = verify_run(analysed)
    assert [damage.path for damage in found.damages] == ["results/zarr.json"] * 2
    assert verify_run(analysed, mend=True).exit_code == 3 and not verify_run(analysed).damages
    assert [*Store.open(analysed).attributes("results")["parts"]] == ["dead", "positions", "contrast"]
    edit(analysed, "results", parts={part: parts[part] for part in PARTS if part != "ngrams"})
    assert [damage.found for damage in verify_run(analysed).damages] == ["updates is marked and ngrams is not"]
    edit(analysed, "results", parts=parts, n_tokens=7)
    assert [damage.found for damage in verify_run(analysed).damages] == ["results of 7 tokens"]


def test_models(collected: Path, tiny_model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(tiny_model, tmp_path / "other")
    assert not verify_run(collected, other).damages
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "x": 1}))
    found = verify_run(collected, other)
    assert named(found) == {str(other)} and "--model" in found.damages[0].mends and not found.damages[0].undo
    model = Store.open(collected).attrs["model"]
    edit(collected, "", model={**model, "id": str(tmp_path / "gone\x1b")})
    found = verify_run(collected)
    assert not found.damages and any("is not at hand" in line for line in found.remarks)


# -- mending -------------------------------------------------------------------------------------------------------


def _bits(path: Path) -> None:
    flip(path / "layers/02/active/c/0/1")
    (path / "layers/00/active/c/0/2").unlink()


def _metadata(path: Path) -> None:
    (path / "layers/02/active/zarr.json").write_text("{")
    (path / "progress/c/0/1").unlink()
    (path / "layers/zarr.json").unlink()


def _results(path: Path) -> None:
    flip(path / "results/neurons/label_mi/c/0/0")
    (path / "results/layers/00/triggers/total/zarr.json").write_text("")
    (path / "results/by_layer/zarr.json").write_text("nothing")
    flip(path / "counts/layers/00/position/zarr.json")


def _marks(path: Path) -> None:
    (path / "results/zarr.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "redone", "lost"),
    [(_bits, 2, PARTS), (_metadata, 4, PARTS), (_results, 0, PARTS), (_marks, 0, ())],
    ids=["bits", "metadata", "results", "marks"],
)
def test_mending_brings_back_the_same_bytes(
    damage: Callable[[Path], None],
    redone: int,
    lost: tuple[str, ...],
    made: tuple[Path, Path],
    analysed: Path,
    tiny_model: Path,
) -> None:
    damage(analysed)
    heard: list[str] = []
    found = verify_run(analysed, mend=True, say=heard.append)
    assert found.exit_code == 3 and found.damages and len(heard) == len(found.mended)
    assert int((~Store.open(analysed).progress()).sum()) == redone
    assert not Store.open(analysed).attributes("results")["parts"]
    assert [part for part in PARTS if any(f"the mark of {part} " in line for line in heard)] == [*lost]
    again = verify_run(analysed)
    assert not again.damages and again.complete == (not redone), again.damages
    assert found.redo == ("the same 'neurolens collect' command",) * bool(redone) + (f"neurolens analyze {analysed}",)
    recollect(tiny_model, analysed)
    analyze_run(analysed)
    assert snapshot(analysed) == snapshot(made[1])


def test_mending_takes_back_no_more_than_it_must(analysed: Path, made: tuple[Path, Path]) -> None:
    flip(analysed / "results/contrast/only/c/0/0")
    (analysed / "counts/zarr.json").unlink()
    found = verify_run(analysed, mend=True)
    assert [*Store.open(analysed).attributes("results")["parts"]] == [part for part in PARTS if part != "contrast"]
    assert len(found.mended) == 2 and "asked for with {" in found.mended[0]
    analyze_run(analysed)
    assert snapshot(analysed) == snapshot(made[1])


def test_what_cannot_be_mended_stays(analysed: Path) -> None:
    flip(analysed / "order/c/2")
    before = snapshot(analysed)
    assert verify_run(analysed, mend=True).exit_code == 1 and snapshot(analysed) == before
    flip(analysed / "results/contrast/only/c/0/0")
    assert verify_run(analysed, mend=True).exit_code == 1


# -- the command line ----------------------------------------------------------------------------------------------


def test_command_line(analysed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (analysed / "notes\x1b[31m.txt").write_text("x")
    flip(analysed / "results/contrast/only/c/0/0")
    assert neurolens(["verify", str(analysed)]) == 1
    out, _ = capsys.readouterr()
    lines = out.splitlines()
    assert "\x1b" not in out and sum(line.startswith("DAMAGED  results/contrast/only/c/0/0: ") for line in lines) == 1
    assert lines[-1] == f"{analysed}: 1 damage"
    assert neurolens(["verify", str(analysed), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["complete"] and not said["sound"]
    assert [*said["damages"][0]] == ["path", "found", "expected", "mends"]
    assert neurolens(["verify", str(analysed), "--mend"]) == 3
    out, err = capsys.readouterr()
    assert "the mark of contrast is taken back" in out and "the mark of contrast is taken back" in err
    assert neurolens(["verify", str(analysed)]) == 0
    assert neurolens(["verify", str(analysed), "--nope"]) == 2
    assert neurolens(["verify", str(analysed), "--model", "no/such"]) == 2
