"""verify, of runs that do not keep all bits and of what waits beside a run: damage is named, and mended to the same
bytes."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import POSITIONS, snapshot
from damage import edit, flip, named, rewrite, times

from neurolens import UsageError
from neurolens.analyze import analyze_run
from neurolens.cli import run as neurolens
from neurolens.collect import collect
from neurolens.corpus import Corpus
from neurolens.parts import PARTS
from neurolens.scanner import scan_path
from neurolens.slots import entry_path, read_slots, slot_path
from neurolens.store import Store
from neurolens.verify import Verification, verify_run

pytestmark = pytest.mark.usefixtures("hasty")

KINDS = ("none", "sparse")
LAYERS = (0, 2)
COLLECT = "the same 'neurolens collect' command"
Take = Callable[[str, str], Path]


def corpus() -> Corpus:
    tokens = np.random.default_rng(3).integers(4, 260, (21, POSITIONS), dtype=np.int32)
    tokens[:, 0] = 2
    return Corpus.from_tokens(tokens, label=np.arange(21) % 2, label_names=("a", "b"))


def recollect(model: Path, path: Path, keep: str) -> list[str]:
    """The one command that a run here is made with, hidden states on the disk; returns what it said."""
    heard: list[str] = []
    collect(
        model,
        corpus(),
        path,
        layers=LAYERS,
        batch_tokens=4 * POSITIONS,
        block_tokens=8 * POSITIONS,
        keep_bitmaps=keep,
        spool=path.parent,
        say=heard.append,
    )
    return heard


@contextlib.contextmanager
def stopped_at(method: str, call: int = 1) -> Iterator[None]:
    """A KeyboardInterrupt in place of the so many-th call of a method of the package."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        calls: list[int] = []

        def stop(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return whole(*arguments)

        *_, owner, name = method.split(".")
        module = __import__(f"neurolens.{method.split('.')[0]}", fromlist=[owner])
        whole = getattr(getattr(module, owner), name)
        patch.setattr(getattr(module, owner), name, stop)
        yield


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Runs of both kinds at some moments: `half`, with one layer counted and one block of the next; `counted`, but no
    results written; `whole`; one also `analysed`, for what needs no bits. Each in a folder with what is beside it."""
    found: dict[tuple[str, str], Path] = {}
    for keep in KINDS:
        folder = tmp_path_factory.mktemp(keep)
        path = folder / "now" / "r.zarr"
        path.parent.mkdir()

        def keep_as(moment: str, keep: str = keep, path: Path = path) -> None:
            found[keep, moment] = shutil.copytree(path.parent, path.parents[1] / moment)

        with stopped_at("committer.Committer.put", 3 + 3 + 2):
            recollect(tiny_model, path, keep)
        keep_as("half")
        with stopped_at("keep.Keeper.finish"):
            recollect(tiny_model, path, keep)
        keep_as("counted")
        recollect(tiny_model, path, keep)
        keep_as("whole")
        if keep == "none":
            analyze_run(path)
            keep_as("analysed")
    return found


@pytest.fixture
def take(made: dict[tuple[str, str], Path], tmp_path: Path) -> Take:
    """A copy of a run of a kind at a moment, with what is beside it."""
    return lambda keep, moment: shutil.copytree(made[keep, moment], tmp_path / f"{keep}-{moment}") / "r.zarr"


@pytest.fixture
def same(made: dict[tuple[str, str], Path]) -> Callable[..., None]:
    """Assert that a run is the undisturbed one, and that nothing waits beside it."""

    def compare(path: Path, keep: str, moment: str = "whole") -> None:
        assert snapshot(path) == snapshot(made[keep, moment] / "r.zarr")
        assert {each.name for each in path.parent.iterdir()} == {"r.zarr", "r.zarr.log"}

    return compare


def slots(path: Path, block: int) -> dict[int, int]:
    """Slots that hold states of a block, by the layers that these have been through."""
    return {slot.layers: slot.number for slot in read_slots(path.with_name("r.zarr.spool"), 99)[block]}


def mended(path: Path, **options: Any) -> Verification:
    """Mend a run, which must then be sound; returns what was found."""
    found = verify_run(path, mend=True, **options)
    assert found.damages and found.mended and found.exit_code == (3 if found.redo else 0)
    again = verify_run(path, **options)
    assert not again.damages, again.damages
    assert again.exit_code == 0 and again.complete == (COLLECT not in found.redo)
    return found


# -- sound runs ----------------------------------------------------------------------------------------------------

BITS = {
    "none": "dropped once they were counted",
    "sparse": "those of rarely active neurons kept once they were counted",
}


@pytest.mark.parametrize("keep", KINDS)
def test_sound_runs_are_sound_at_every_moment(keep: str, take: Take) -> None:
    for moment, layers in (("half", 1), ("counted", 2), ("whole", 2), ("analysed", 2))[: 4 if keep == "none" else 3]:
        path = take(keep, moment)
        stood, folder = times(path), path.parent
        found = verify_run(path)
        assert not found.damages and found.exit_code == 0 and times(path) == stood, moment
        lines = {line.split(":")[0]: line for line in found.checks}
        remarks = {line.split(":")[0].split(" for")[0] for line in found.remarks}
        assert lines["bits"].endswith(f"{BITS[keep].partition(', in')[0]}, in {layers} of 2 layers")
        assert found.complete == (moment in ("whole", "analysed"))
        if found.complete:
            assert remarks == {"not certified"} | ({"not analysed"} if moment == "whole" else set())
            assert "schema" in lines and "results" in lines
            continue
        assert lines["counts"] == f"counts: those of {layers} layers wait in {folder / 'r.zarr.scans'}"
        assert remarks == {"not certified", "not analysed", "incomplete"}
        said = "\n".join(found.remarks)
        assert ("4 of 6 blocks of layers" if moment == "half" else "all bits are collected") in said
        assert ("hidden states" in lines) == (moment == "half"), "they are removed when all bits are collected"
        if moment == "half":
            assert lines["hidden states"].endswith(
                f"those of 2 blocks wait in {folder / 'r.zarr.spool'}, and are whole"
            )
        assert ("results" in lines) == (keep == "sparse"), "of dropped bits there is nothing to compare with"


def test_what_is_left_beside_a_complete_run_is_remarked(take: Take) -> None:
    path, waiting = take("none", "whole"), take("none", "half")
    for kind in ("spool", "scans"):
        shutil.copytree(waiting.with_name(f"r.zarr.{kind}"), path.with_name(f"r.zarr.{kind}"))
    flip(path.with_name("r.zarr.spool") / "slot-000")
    flip(scan_path(path, 0))
    found = verify_run(path)
    assert not found.damages and found.complete
    for kind in ("spool", "scans"):
        assert any(f"r.zarr.{kind}: left by" in line and "may be removed" in line for line in found.remarks)


def test_an_attribute_that_is_no_choice(take: Take) -> None:
    path = take("none", "whole")
    edit(path, "", keep_bitmaps="some")
    (damage,) = verify_run(path).damages
    assert (damage.path, damage.found, damage.expected) == ("zarr.json", "keep_bitmaps some", "all, sparse or none")


# -- what was counted ----------------------------------------------------------------------------------------------


def test_counts_that_are_gone_or_damaged(take: Take, tiny_model: Path, same: Callable[..., None]) -> None:
    path = take("none", "counted")
    scan_path(path, 0).unlink()
    gone = verify_run(path).damages
    assert [(damage.path, damage.found) for damage in gone] == [("layers/00/active", "no bits, and no counts")]
    assert str(scan_path(path, 0)) in gone[0].expected and COLLECT in gone[0].mends
    flip(scan_path(path, 2), 0.3)
    found = mended(path)
    assert named(found) == {"layers/00/active", str(scan_path(path, 2))} and found.redo == (COLLECT,)
    assert not Store.open(path).progress().any() and not scan_path(path, 2).exists()
    recollect(tiny_model, path, "none")
    same(path, "none")


def test_damage_of_a_layer_takes_no_other_back(take: Take, tiny_model: Path, same: Callable[..., None]) -> None:
    """Counts, a row that is kept, whose are kept: each is damage of its layer alone while the counts of others wait."""
    path = take("sparse", "counted")
    flip(path / "layers/00/active/c/0/1")
    found = mended(path)
    assert named(found) == {"layers/00/active/c/0/1"} and found.damages[0].undo == ("layer", 0)
    assert Store.open(path).progress().tolist() == [[False] * 3, [True] * 3]
    assert not (path / "layers/00/kept").exists() and not scan_path(path, 0).exists()
    recollect(tiny_model, path, "sparse")
    same(path, "sparse")


def test_collect_itself_does_again_what_has_neither_bits_nor_counts(
    take: Take, tiny_model: Path, same: Callable[..., None]
) -> None:
    """Also where the file is there, and damaged: what it says must not pass for what was counted. And where a mend was
    stopped once marks were taken back, or in the middle of that."""
    path = take("none", "counted")
    rewrite(path, "progress", lambda marks: marks.__setitem__((1, slice(0, 2)), 0))
    scan_path(path, 2).write_bytes(scan_path(path, 2).read_bytes()[:-9])
    assert named(verify_run(path)) == {"layers/02/active"}
    rewrite(path, "progress", lambda marks: marks.__setitem__(1, 0))
    found = verify_run(path)
    assert not found.damages and "layers/02/active: of a layer that is collected again" in "".join(found.remarks)
    scan_path(path, 0).write_bytes(b"")
    heard = recollect(tiny_model, path, "none")
    assert [line.split(" has")[0] for line in heard if "neither" in line] == ["layer 0", "layer 2"]
    same(path, "none")


def test_counts_of_bits_that_are_there_are_counted_again(
    take: Take, tiny_model: Path, same: Callable[..., None]
) -> None:
    path = take("none", "half")
    with stopped_at("store.Store.drop_bits", 2):
        recollect(tiny_model, path, "none")
    assert (path / "layers/02/active").exists() and not verify_run(path).damages
    flip(scan_path(path, 2), 0.999)
    other = shutil.copytree(path.parent, path.parents[1] / "not mended") / "r.zarr"
    recollect(tiny_model, other, "none")  # does so itself, rather than drop the bits
    same(other, "none")
    found = mended(path)
    assert [damage.undo for damage in found.damages] == [("scan", 2)] and found.redo == (COLLECT,)
    assert Store.open(path).progress().all() and not scan_path(path, 2).exists()
    recollect(tiny_model, path, "none")
    same(path, "none")


def test_what_else_is_in_the_folder_of_counts(take: Take) -> None:
    path = take("none", "half")
    for name in ("00.npz.making", "01.npz"):
        (scan_path(path, 0).parent / name).write_text("x")
    shutil.copy(scan_path(path, 0), scan_path(path, 2))
    found = verify_run(path)
    said = "\n".join(found.remarks)
    assert not found.damages and "00.npz.making: left by" in said and "01.npz: a file that is not neurolens'" in said
    assert "02.npz: of a layer that is collected again" in said


# -- results of bits that are gone ---------------------------------------------------------------------------------


def _results(path: Path) -> None:
    flip(path / "results/neurons/activations/c/0/0")


def _marks(path: Path) -> None:
    (path / "results/zarr.json").write_text("{")


def _columns(path: Path) -> None:
    flip(path / "results/by_layer/layer/c/0")  # written once, when the folder is made
    shutil.rmtree(path / "layers/02/kept")


@pytest.mark.parametrize(
    ("keep", "moment", "damage"),
    [("none", "analysed", _results), ("none", "whole", _marks), ("sparse", "whole", _columns)],
    ids=["results", "marks", "kept"],
)
def test_results_that_cannot_be_counted_again_are_collected_again(
    keep: str, moment: str, damage: Callable[[Path], None], take: Take, tiny_model: Path, same: Callable[..., None]
) -> None:
    path = take(keep, moment)
    damage(path)
    assert any(
        "--mend', then the same 'neurolens collect' command and 'neurolens analyze'" in each.mends
        for each in verify_run(path).damages
    )
    found = mended(path)
    more = (
        damage is not _columns
    )  # collect itself makes the three parts; whether there were more is lost with the marks
    assert found.redo == (COLLECT, *([f"neurolens analyze {path}"] if more else []))
    assert not Store.open(path).progress().any() and not Store.open(path).attributes("results")["parts"]
    recollect(tiny_model, path, keep)
    if moment == "analysed":
        assert not Store.open(path).has("results/neurons/label_mi"), "nothing stays that built on other results"
        analyze_run(path)
    same(path, keep, moment)


def test_what_needs_no_bits_needs_no_collect(take: Take, same: Callable[..., None]) -> None:
    """Results of other parts, and marks of blocks of layers that were counted."""
    path = take("none", "analysed")
    (path / "progress/c/0/1").unlink()
    assert mended(path).redo == () and Store.open(path).progress().all()
    same(path, "none", "analysed")
    flip(path / "results/contrast/only/c/0/0")
    found = mended(path)
    assert named(found) == {"results/contrast/only/c/0/0"} and found.redo == (f"neurolens analyze {path}",)
    assert [*Store.open(path).attributes("results")["parts"]] == [part for part in PARTS if part != "contrast"]
    analyze_run(path)
    same(path, "none", "analysed")


def test_results_half_written_are_written_again_from_counts(
    take: Take, tiny_model: Path, same: Callable[..., None]
) -> None:
    path = take("sparse", "counted")
    with stopped_at("store.Store.settle", 2):  # in the mark of the second part
        recollect(tiny_model, path, "sparse")
    assert [*Store.open(path).attributes("results")["parts"]] == ["dead"] and not verify_run(path).damages
    flip(path / "results/neurons/activations/c/0/0")
    found = mended(path)
    assert found.redo == (COLLECT,) and Store.open(path).progress().all()
    recollect(tiny_model, path, "sparse")
    same(path, "sparse")


# -- bits that are kept in part ------------------------------------------------------------------------------------


def _activate(kept: bool, path: Path, layer: int) -> None:
    """A bit of the first neuron that is kept, or is not."""
    neuron = int(np.flatnonzero(Store.open(path).kept(layer) == kept)[-1])
    rewrite(path, f"layers/{layer:02d}/active", lambda bits: bits[neuron].__setitem__(50, bits[neuron, 50] ^ 4))


# what is damaged of a complete run, path of the damage, what was expected; two that say nothing of one another
KEPT: dict[str, list[tuple[Callable[[Path], object], str, str]]] = {
    "rows": [
        (lambda path: _activate(True, path, 0), "layers/00/active", "activations of layer 0 as were counted"),
        (lambda path: _activate(False, path, 2), "layers/02/active", "0 of the others"),
    ],
    "whose": [
        (lambda path: rewrite(path, "layers/00/kept", _swap), "layers/00/kept", "rarely"),
        (lambda path: shutil.rmtree(path / "layers/02/kept"), "layers/02/kept", "an array"),
    ],
    "attributes": [
        (lambda path: edit(path, "layers/00/kept", thinned=False), "layers/00/kept", "thinned, as the results"),
        (lambda path: edit(path, "layers/02/kept", frequency="few"), "layers/02/kept", "frequency, up to which"),
    ],
    "chunks": [
        (lambda path: flip(path / "layers/00/active/c/0/2"), "layers/00/active/c/0/2", "a chunk as it was written"),
        (lambda path: flip(path / "layers/02/kept/c/0"), "layers/02/kept/c/0", "a chunk as it was written"),
    ],
    "arrays": [
        (lambda path: shutil.rmtree(path / "layers/00/active"), "layers/00/active", "an array"),
        (lambda path: edit(path, "layers/02/kept", frequency=0.5), "layers/02/kept", "rarely"),
    ],
}  # fmt: skip


def _swap(kept: np.ndarray) -> None:
    kept[[*np.flatnonzero(kept)[:1], *np.flatnonzero(~kept)[:1]]] ^= True


@pytest.mark.parametrize("group", KEPT)
def test_bits_that_are_kept_in_part(group: str, take: Take) -> None:
    path = take("sparse", "whole")
    for damage, *_ in KEPT[group]:
        damage(path)
    found = verify_run(path)
    assert {damage.path: damage.undo for damage in found.damages} == {
        name: ("layer", layer) for (_, name, _), layer in zip(KEPT[group], LAYERS, strict=True)
    }
    expected = {damage.path: damage.expected for damage in found.damages}
    for _, name, wanted in KEPT[group]:
        assert wanted in expected[name]


def test_rows_that_are_still_to_be_dropped_are_no_damage(
    take: Take, tiny_model: Path, same: Callable[..., None]
) -> None:
    """Of a run that is not complete: collect drops them."""
    path = take("sparse", "half")
    with stopped_at("store.Store.set_attributes"):  # bits of layer 2 are thinned, and nothing says so
        recollect(tiny_model, path, "sparse")
    assert Store.open(path).attributes("layers/02/kept")["thinned"] is False
    _activate(False, path, 2)
    found = verify_run(path)
    assert not found.damages and not found.complete
    _activate(True, path, 2)  # those that stay must be right all the same
    assert named(verify_run(path)) == {"layers/02/active"}
    _activate(True, path, 2)
    recollect(tiny_model, path, "sparse")
    same(path, "sparse")


# -- hidden states -------------------------------------------------------------------------------------------------


def test_hidden_states_that_are_damaged(take: Take, tiny_model: Path, same: Callable[..., None]) -> None:
    path = take("none", "half")
    folder = path.with_name("r.zarr.spool")
    held = {block: slots(path, block) for block in range(3)}
    assert all(2 in held[block] for block in (1, 2)) and 1 in held[2]
    flip(slot_path(folder, held[1][2]))
    cut = slot_path(folder, held[2][2])
    cut.write_bytes(cut.read_bytes()[:99])
    flip(slot_path(folder, held[2][1]), 0.1)
    flip(slot_path(folder, held[0][2]))  # of a block that is done
    found = verify_run(path)
    assert found.exit_code == 1 and found.checks[-1].startswith("checkpoint")
    assert {(damage.path, damage.found.split(": ")[1], damage.expected) for damage in found.damages} == {
        (str(slot_path(folder, held[1][2])), f"the block is done again from layer {max({0} | held[1].keys() - {2})}",
         "the states of block 1 after 2 layers"),
        (str(cut), "the block is done again from layer 0", "the states of block 2 after 2 layers"),
        (str(slot_path(folder, held[2][1])), "the block is done again from layer 0",
         "the states of block 2 after 1 layers"),
    }  # fmt: skip
    assert all("or with the same 'neurolens collect'" in damage.mends for damage in found.damages)
    assert any("block 0 after 2 layers are not whole, and not needed" in line for line in found.remarks)
    done = mended(path)
    assert done.redo == (COLLECT,) and not entry_path(folder, held[2][1]).exists()
    assert Store.open(path).progress().sum() == 4, "the run itself is as it was"
    assert not any("are damaged" in line for line in recollect(tiny_model, path, "none"))
    same(path, "none")


def test_states_are_needed_from_where_marks_are_given_back(take: Take) -> None:
    """A block whose marks cannot be read goes on behind the layers that were counted: its states are named at once."""
    path = take("none", "half")
    slot = slot_path(path.with_name("r.zarr.spool"), slots(path, 1)[2])
    (path / "progress/c/0/1").write_bytes(b"")
    flip(slot)
    found = mended(path)
    assert named(found) == {"progress/c/0/1", str(slot)}
    assert Store.open(path).progress().tolist() == [[True] * 3, [True, False, False]]


def test_descriptions_of_hidden_states(take: Take, tmp_path: Path, tiny_model: Path) -> None:
    path = take("none", "half")
    folder = path.with_name("r.zarr.spool")
    known = json.loads((folder / "spool.json").read_text())
    number = slots(path, 1)[2]
    entry_path(folder, number).write_text("{")
    (folder / "slot-001.json.making").write_text("x")
    found = verify_run(path)
    assert named(found) == {str(entry_path(folder, number))} and "slot-001.json.making: left" in "".join(found.remarks)
    (folder / "spool.json").write_text(json.dumps({**known, "run": "another"}))
    found = verify_run(path)
    assert not found.damages and any("hidden states of another run" in line for line in found.remarks)
    for content in ("{", json.dumps({**known, "slots": 3}), json.dumps({**known, "sequence_bytes": "1"})):
        (folder / "spool.json").write_text(content)
        assert named(verify_run(path)) == {str(folder / "spool.json")}
    assert mended(path).redo == (COLLECT,) and not [*folder.glob("slot-*[0-9]")]
    folder.mkdir(exist_ok=True)
    found = verify_run(path)
    assert not found.damages and any("no spool.json" in line for line in found.remarks)


def test_hidden_states_where_collect_was_told_to_put_them(
    take: Take, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, elsewhere = take("none", "half"), tmp_path / "else where"
    elsewhere.mkdir()
    folder = Path(shutil.move(path.with_name("r.zarr.spool"), elsewhere / "r.zarr.spool"))
    slot = slot_path(folder, next(slot.number for slot in read_slots(folder, 9)[1] if slot.layers == 2))
    flip(slot)
    assert not verify_run(path).damages, "what is not beside the run must be told"
    for nothing in ("memory", path.parent):
        assert not verify_run(path, spool=nothing).damages
    with pytest.raises(UsageError, match=r"no folder .*--spool"):
        verify_run(path, spool=tmp_path / "nowhere")
    assert neurolens(["verify", str(path), "--spool", str(elsewhere)]) == 1
    out, _ = capsys.readouterr()
    (line,) = (line for line in out.splitlines() if line.startswith("DAMAGED"))
    assert str(slot) in line and f"--mend --spool '{elsewhere}'" in line
    assert neurolens(["verify", str(path), "--spool", str(elsewhere), "--mend"]) == 3
    assert neurolens(["verify", str(path), "--spool", str(elsewhere)]) == 0
