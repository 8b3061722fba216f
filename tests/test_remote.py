"""Runs elsewhere: the same bytes as on a disk, object by object; stopped, shared, damaged, out of reach.

Laws are held in fsspec's memory; whole commands, and what only a server can do, on an S3 server on this machine.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import POSITIONS, random_texts, snapshot
from elsewhere import break_off, flip, objects, place_of, upload
from runs import make_run
from test_collect import BATCH, random_corpus, stop_after

import neurolens
from neurolens import IncompleteError, NeurolensError, UsageError, remote
from neurolens.cli import run as command
from neurolens.collect import collect
from neurolens.comparison.members import find_members
from neurolens.corpus import Corpus
from neurolens.durable import BEGUN
from neurolens.location import Url, beside, here, locate
from neurolens.locks import lock, log_path
from neurolens.merge import merge
from neurolens.place import Folder, find_place
from neurolens.scanner import scan_path
from neurolens.shards import Shard
from neurolens.slots import spool_folder
from neurolens.store import Store
from neurolens.verify import verify_run

pytestmark = pytest.mark.usefixtures("hasty")
CUT: dict[str, Any] = {"batch_tokens": 2 * POSITIONS, "block_tokens": BATCH}  # 6 blocks of 22 sequences
CUT_AS_OPTIONS = ["--batch-tokens", "192", "--block-tokens", "768"]
NAMES = count()


@pytest.fixture(autouse=True)
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, in which is what stands beside a run that is elsewhere; memory is empty again afterwards."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.chdir(tmp_path)
    yield tmp_path
    MemoryFileSystem.store.clear()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of an S3 server, which the environment says."""
    pytest.importorskip("s3fs", reason="runs elsewhere need s3fs: pip install neurolens-llm[remote]")
    server = pytest.importorskip("moto.server", reason="their S3 server is moto: pip install moto[s3] flask flask-cors")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    running.start()
    url = "http://{}:{}".format(*running.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        known = {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "somebody", "SECRET_ACCESS_KEY": "s3cret", "MAX_ATTEMPTS": "1"}
        known |= {"DEFAULT_REGION": "us-east-1", "EC2_METADATA_DISABLED": "true"}
        for name, value in known.items():
            patch.setenv(f"AWS_{name}", value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        yield url
    remote.close()
    running.stop()


@pytest.fixture
def bucket(endpoint: str) -> str:
    """The URL of an empty bucket."""
    name = f"bucket-{next(NAMES)}"
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")):
        return f"s3://{name}"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return random_corpus(22)


@pytest.fixture(scope="module")
def whole(tiny_model: Path, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run on this machine, collected."""
    path = tmp_path_factory.mktemp("whole") / "r.zarr"
    collect(tiny_model, corpus, path, **CUT)
    return path


def small(path: Any, blocks: int | None = None) -> Any:
    """A run of 2 layers × 10 neurons and 3 blocks, of drawn bits; no model is needed for it."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(4, 40, (12, 16), dtype=np.int32)
    tokens[:, 0] = 2
    active = rng.random((2, 10, tokens.size)) < 0.2
    corpus = Corpus.from_tokens(tokens)
    return make_run(path, corpus, active, layers=[0, 3], sequences_per_block=4, vocab_size=40, blocks=blocks)


def lines(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """(exit code, the last line on stderr) of a command, which prints no traceback."""
    capsys.readouterr()
    code = command([str(argument) for argument in arguments])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return code, err.strip().splitlines()[-1] if err.strip() else ""


# -- where a run is ------------------------------------------------------------------------------------------------


def test_urls_and_paths_are_told_apart() -> None:
    assert locate("a/b.zarr") == locate(Path("a/b.zarr")) == Path("a/b.zarr")
    assert locate("file:///x/r.zarr") == Path("/x/r.zarr")
    assert str(locate("S3://Bucket/a/opt.zarr/")) == "s3://Bucket/a/opt.zarr"
    url = locate("gs://b/a/r.zarr")
    assert isinstance(url, Url) and url.name == "r.zarr" and str(url.root) == "gs://b" and url == locate(url)
    assert isinstance(locate("memory://r.zarr"), Url) and locate("s3:/b/r.zarr") == Path("s3:/b/r.zarr")
    with pytest.raises(UsageError, match="s3://b/r is elsewhere; expected a file on this machine"):
        here("s3://b/r", "a file")


@pytest.mark.parametrize(
    "url",
    ["s3://bucket", "s3://bucket/", "s3://", "s3:///r.zarr", "s3://b//r.zarr", "s3://b/../r.zarr", "s3://b/./r.zarr",
     "file://r.zarr", "memory://", "s3://b/r\n.zarr"],
)  # fmt: skip
def test_urls_that_name_no_run(url: str) -> None:
    with pytest.raises(UsageError, match="expected") as caught:
        locate(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["s3://me:hush@bucket/r.zarr", "s3://me:hu/sh@bucket/r.zarr", "https://h/r.zarr?sig=hush", "s3://b/r.zarr#hush",
     "s3://b/me:hush@/r.zarr"],
)  # fmt: skip
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["info", url], ["collect", "model", "text", "-o", url], ["merge", url, url, "-o", url]):
        capsys.readouterr()
        assert command(arguments) == 2
        out, err = capsys.readouterr()
        assert "credentials" in err and "hush" not in out + err and "sh@" not in err


def test_what_stands_beside_runs_of_one_name_is_not_shared() -> None:
    urls = [locate(f"s3://{bucket}/opt.zarr") for bucket in "ab"]
    for find in (log_path, spool_folder, lambda url: scan_path(url, 0)):
        paths = {find(url) for url in urls}
        assert len(paths) == 2
        assert all(str(path).startswith("opt.zarr.") and not path.is_absolute() for path in paths)
    assert beside(Path("/a/r.zarr")) == Path("/a/r.zarr") and len(beside(locate(f"s3://b/{'x' * 900}")).name) < 99


# -- the same run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "parts"), [("memory", []), ("s3", ["--only", "dead"])])
def test_commands_make_the_same_run_object_by_object(
    scheme: str,
    parts: list[str],
    tiny_model: Path,
    at: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """collect in two shards, analyze, certify; what info, neuron, export, plot and verify say of it."""
    Path("text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in random_texts(12)))
    base = request.getfixturevalue("bucket") if scheme == "s3" else "memory://bucket"
    runs = ["local.zarr", f"{base}/folder/remote.zarr"]
    shown: dict[str, list[Any]] = {}
    for run in runs:
        for shard in ("1/2", "2/2"):
            collected = [
                "collect",
                tiny_model,
                "text.jsonl",
                "-o",
                run,
                *CUT_AS_OPTIONS,
                "--layers",
                "2",
                "--shard",
                shard,
            ]
            assert lines(capsys, *collected)[0] == 0
        assert lines(capsys, *collected[:-2]) == (0, f"{run}: collected; next: neurolens analyze {run}")
        assert lines(capsys, "analyze", run, *parts)[0] == 0
        assert lines(capsys, "certify", tiny_model, "--run", run, "--tokens", 400)[0] == 0
        for asked in (["info"], ["neuron", "2.3"], ["verify"], ["export", "t.csv"]):
            name, *more = asked
            capsys.readouterr()
            assert command([name, run, *more, "--json", *(["--force"] if name == "export" else [])]) == 0
            said = capsys.readouterr().out.replace(run, "RUN").replace(Path(run).name.removesuffix(".zarr"), "RUN")
            shown.setdefault(name, []).append(json.loads(said))
        shown.setdefault("csv", []).append(Path("t.csv").read_bytes())
        assert lines(capsys, "plot", run, "-o", "figures", "--figure", "dead", "--format", "svg")[0] == 0
    assert objects(runs[1]) == snapshot(at / runs[0])
    for name, (local, elsewhere) in shown.items():
        assert local == elsewhere, name
    log = beside(locate(runs[1])).name + ".log"
    assert {path.name for path in at.iterdir()} == {
        "text.jsonl", "t.csv", "figures", "local.zarr", "local.zarr.log", log
    }  # fmt: skip
    assert repr(neurolens.open(runs[1])).startswith(f"<Run {runs[1]}: 1 layers")


def test_bits_that_are_not_kept(tiny_model: Path, corpus: Corpus, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each layer there are its bits or its counts, also of a run that is stopped; nothing stays beside it."""
    collect(tiny_model, corpus, at / "r.zarr", keep_bitmaps="sparse", **CUT)
    with monkeypatch.context() as patch:
        break_off("memory://r.zarr", "_pipe_file", lambda: ConnectionError("gone"), patch, after=70)
        with pytest.raises(IncompleteError, match=r"cannot reach memory://r.zarr \(gone\)"):
            collect(tiny_model, corpus, "memory://r.zarr", keep_bitmaps="sparse", **CUT)
    collect(tiny_model, corpus, "memory://r.zarr", keep_bitmaps="sparse", **CUT)
    assert objects("memory://r.zarr") == snapshot(at / "r.zarr")
    assert {path.name for path in at.iterdir()} == {"r.zarr", "r.zarr.log", log_path(locate("memory://r.zarr")).name}


@pytest.mark.parametrize("commits", [0, 1, 7])
def test_stopped_and_continued_is_undisturbed(
    commits: int, tiny_model: Path, corpus: Corpus, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(commits, patch)
        with pytest.raises(KeyboardInterrupt):
            collect(tiny_model, corpus, "memory://r.zarr", **CUT)
    assert Store.open(locate("memory://r.zarr")).progress().sum() == commits
    collect(tiny_model, corpus, "memory://r.zarr", **CUT)
    assert objects("memory://r.zarr") == snapshot(whole)


def test_put_by_put_a_mark_tells_the_truth(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is not there, or it is whole but for blocks without a mark, after whichever put the connection is lost."""
    expected = snapshot(small(at / "r.zarr"))
    with monkeypatch.context() as patch:
        seen = break_off("memory://t/whole.zarr", "_pipe_file", ConnectionError, patch, after=10**6)
        small(locate("memory://t/whole.zarr"))
    puts = len(seen)
    assert puts > 30
    for after in range(0, puts, 3):
        url = f"memory://t/{after}.zarr"
        with monkeypatch.context() as patch:
            break_off(url, "_pipe_file", lambda: ConnectionError("gone"), patch, after=after)
            with pytest.raises(IncompleteError):
                small(locate(url))
        if not Store.is_at(locate(url)):
            assert objects(url) == {} or json.loads(objects(url)["zarr.json"])["attributes"] == BEGUN
            continue
        store = Store.open(locate(url))
        for (row, block), done in np.ndenumerate(store.progress()):
            if done:
                name = f"layers/{store.layers[row]:02d}/active/c/0/{block}"
                assert objects(url)[name] == expected[name]


def test_a_run_appears_whole_and_what_was_begun_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    url = locate("memory://r.zarr")
    with monkeypatch.context() as patch:
        break_off(str(url), "_pipe_file", ConnectionError, patch, after=8)
        with pytest.raises(IncompleteError):
            small(url)
    assert 0 < len(objects(str(url))) <= 8 and not Store.is_at(url)
    with pytest.raises(NeurolensError, match=r"no run at memory://r.zarr"):
        Store.open(url)
    place_of(str(url)).write("layers/00/active/c/9/9", b"of a run that was cut otherwise")
    small(url)
    assert "layers/00/active/c/9/9" not in objects(str(url)) and Store.open(url).progress().all()
    with pytest.raises(NeurolensError, match="exists; choose another output"):
        small(url)


@pytest.mark.parametrize(
    "content", [{"notes.txt": b"mine"}, {"zarr.json": b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'}]
)
def test_what_is_somebody_elses_is_left_alone(content: dict[str, bytes], tiny_model: Path, corpus: Corpus) -> None:
    for name, there in content.items():
        place_of("memory://b/mine").write(name, there)
    for url in ("memory://b/mine", "memory://b"):
        with pytest.raises(NeurolensError, match="not a neurolens run"):
            collect(tiny_model, corpus, url, **CUT)
        with pytest.raises(NeurolensError, match="exists"):
            small(locate(url))
    assert objects("memory://b/mine") == content


def test_merged_from_here_and_elsewhere(whole: Path, tmp_path: Path) -> None:
    """Parts of one run, with other blocks each."""
    parts: list[Any] = [upload(whole, "memory://b/part.zarr"), shutil.copytree(whole, tmp_path / "part.zarr")]
    marks = np.indices((3, 6)).sum(0) % 2
    for i, part in enumerate(parts):
        Store.open(locate(part), write=True).unmark(marks == i)
    merge(parts, "memory://merged.zarr")
    assert objects("memory://merged.zarr") == snapshot(whole)
    with pytest.raises(UsageError, match="is given twice"):
        merge(["memory://a/r.zarr", "memory://a/r.zarr/"], "memory://m.zarr")
    with pytest.raises(UsageError, match="one of the runs to merge"):
        merge(["memory://a/r.zarr", "memory://b/r.zarr"], "memory://a/r.zarr")


def test_runs_elsewhere_are_compared_with_runs_here(whole: Path) -> None:
    members = find_members([upload(whole, "memory://a/r.zarr"), whole], {"step": [0, 1]})
    assert [member.run.name for member in members] == ["r", "r"] and members[0].factors["step"] == 0
    with pytest.raises(UsageError, match="given twice"):
        find_members(["memory://a/r.zarr", "memory://a/r.zarr"])


# -- several at once -----------------------------------------------------------------------------------------------


def test_shards_from_two_machines(
    tiny_model: Path, corpus: Corpus, whole: Path, bucket: str, at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that share no lock; nobody makes the run beforehand."""
    url, errors, together = f"{bucket}/r.zarr", [], threading.Barrier(2)

    def elsewhere(where: Any) -> Path:
        folder = at / threading.current_thread().name
        folder.mkdir(exist_ok=True)
        return where if isinstance(where, Path) else folder / where.name

    for module in ("locks", "slots", "scanner", "store", "identity"):
        monkeypatch.setattr(f"neurolens.{module}.beside", elsewhere)
    monkeypatch.setattr("neurolens.collect.PAUSE", 0.02)

    def work(number: int) -> None:
        try:
            together.wait(60)
            collect(tiny_model, corpus, url, shard=Shard(number, 2), **CUT)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,), name=f"machine-{i}") for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert objects(url) == snapshot(whole)
    assert (at / "machine-1/r.zarr.log").exists() and (at / "machine-2/r.zarr.log").exists()


def test_shards_that_cannot_be_done(tiny_model: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurolens.collect.PATIENCE", 0.0)
    monkeypatch.setattr("neurolens.collect.PAUSE", 0.0)
    said: list[str] = []
    with pytest.raises(IncompleteError, match="give this command again once shard 1/2 runs"):
        collect(tiny_model, corpus, "memory://r.zarr", shard=Shard(2, 2), say=said.append, **CUT)
    assert "memory://r.zarr is not there yet; shard 1/2 makes it: waiting" in said
    with pytest.raises(UsageError, match="keep all bits"):
        collect(tiny_model, corpus, "memory://r.zarr", shard=Shard(1, 2), keep_bitmaps="none", **CUT)
    assert objects("memory://r.zarr") == {}


def test_processes_of_one_machine_exclude_each_other() -> None:
    url = locate("memory://r.zarr")
    small(url)
    with lock(url), pytest.raises(NeurolensError, match=r"memory://r.zarr is in use by another process"), lock(url):
        pass
    with lock(url), pytest.raises(NeurolensError, match=r"memory://r.zarr is being written"):
        verify_run("memory://r.zarr")


# -- damage, and what is none ----------------------------------------------------------------------------------------


def test_damage_is_found_and_mended(tiny_model: Path, corpus: Corpus, whole: Path) -> None:
    url = upload(whole, "memory://r.zarr")
    place = place_of(url)
    flip(url, "layers/01/active/c/0/2")
    place.unlink("layers/02/active/c/0/4")
    place.write("notes.txt", b"")
    found = verify_run(url, tiny_model)
    assert {damage.path: damage.found for damage in found.damages}.keys() == {
        "layers/01/active/c/0/2", "layers/02/active/c/0/4"
    }  # fmt: skip
    assert "notes.txt: a file that is not neurolens'; it may be removed" in found.remarks
    assert "neurolens verify memory://r.zarr --mend" in found.damages[0].mends
    assert verify_run(url, tiny_model, mend=True).exit_code == 3
    place.unlink("notes.txt")
    collect(tiny_model, corpus, url, **CUT)
    assert objects(url) == snapshot(whole)


@pytest.mark.parametrize("after", [0, 5, 12, 40])
@pytest.mark.parametrize("call", ["_cat_file", "_info"])
def test_a_connection_that_is_lost_is_no_damage(call: str, after: int, whole: Path) -> None:
    """Nothing is mended that could not be read."""
    url = upload(whole, "memory://r.zarr")
    with pytest.MonkeyPatch.context() as patch:
        break_off(url, call, lambda: ConnectionError("gone"), patch, after=after)
        with pytest.raises(IncompleteError, match=r"cannot reach memory://r.zarr \(gone\)"):
            verify_run(url, mend=True)
    assert objects(url) == snapshot(whole)


def test_objects_that_cannot_be_removed_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    url = locate("memory://r.zarr")
    small(url)

    async def nothing(*args: Any, **kwargs: Any) -> None:
        return None

    monkeypatch.setattr(place_of(str(url))._files, "_rm", nothing)
    with pytest.raises(
        NeurolensError, match=r"access to memory://r.zarr is denied \(4 objects of .* cannot be removed"
    ):
        Store.open(url, write=True).drop_bits(3)


# -- out of reach ----------------------------------------------------------------------------------------------------


def test_errors_are_one_line(
    tiny_model: Path, endpoint: str, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("text.txt").write_text("a text " * 200)
    asked = ("collect", tiny_model, "text.txt", "-o")
    assert lines(capsys, "info", f"{bucket}/r.zarr") == (
        1, f"neurolens: no run at {bucket}/r.zarr; make one with 'neurolens collect MODEL DATA -o {bucket}/r.zarr'"
    )  # fmt: skip
    for arguments in (("info",), ("verify",), asked):
        code, said = lines(capsys, *arguments, "s3://no-such-bucket-here/r.zarr")
        assert code == 1 and said.startswith("neurolens: there is no s3://no-such-bucket-here, or it is gone; make it")
        code, said = lines(capsys, *arguments, "nowhere://b/r.zarr")
        assert code == 2 and "nowhere:// is no scheme that fsspec knows; expected s3://BUCKET/RUN.zarr" in said
        code, said = lines(capsys, *arguments, "s3://a b/r.zarr")
        assert code == 2 and "s3://a b cannot be the name of a bucket" in said
    with monkeypatch.context() as patch:
        break_off(f"{bucket}/r.zarr", "_info", lambda: PermissionError("Access Denied"), patch)
        code, said = lines(capsys, *asked, f"{bucket}/r.zarr")
        assert code == 1 and said.startswith(f"neurolens: access to {bucket}/r.zarr is denied (Access Denied); check")
    with monkeypatch.context() as patch:
        remote.close()
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        patch.setenv("HOME", "/nonexistent")
        code, said = lines(capsys, *asked, f"{bucket}/r.zarr")
        assert code == 1 and said.startswith(f"neurolens: no credentials for {bucket}/r.zarr")
    with monkeypatch.context() as patch:
        remote.close()
        patch.setenv("AWS_ENDPOINT_URL", "http://me:hush@127.0.0.1:9")
        code, said = lines(capsys, *asked, f"{bucket}/r.zarr")
        assert code == 3 and said.startswith(f"neurolens: cannot reach {bucket}/r.zarr (") and "hush" not in said
    remote.close()
    assert list(Path().iterdir()) == [Path("text.txt")]


def test_a_connection_lost_on_the_way_continues(
    tiny_model: Path, bucket: str, capsys: pytest.CaptureFixture[str], at: Path
) -> None:
    Path("text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in random_texts(12)))
    asked = ["collect", tiny_model, "text.jsonl", *CUT_AS_OPTIONS, "-o"]
    assert lines(capsys, *asked, "r.zarr")[0] == 0
    url = f"{bucket}/r.zarr"
    with pytest.MonkeyPatch.context() as patch:
        break_off(url, "_pipe_file", lambda: ConnectionResetError("reset by peer"), patch, after=55)
        code, said = lines(capsys, *asked, url)
    assert code == 3 and said == (
        f"neurolens: cannot reach {url} (reset by peer); once it can be reached, give the same command again"
    )
    assert Store.open(locate(url)).progress().any()
    assert lines(capsys, *asked, url)[0] == 0
    assert objects(url) == snapshot(at / "r.zarr")


def test_without_s3fs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import _registry

    remote.close()
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    code, said = lines(capsys, "info", "s3://b/r.zarr")
    assert code == 1 and said.startswith("neurolens: s3://b/r.zarr needs a package that is not installed (")
    assert said.endswith("pip install neurolens-llm[remote]")


def test_files_that_must_be_on_this_machine(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ("export", whole, "s3://b/t.csv"), ("plot", whole, "-o", "s3://b/figures"), ("study", "s3://b/job.toml"),
        ("compare", whole, "-o", "s3://b/c"), ("study", "job.toml", "-o", "s3://b/study"), ("demo", "-o", "s3://b/d"),
        ("collect", "model", "text", "-o", "s3://b/r.zarr", "--spool", "s3://b/spool"),
    ):  # fmt: skip
        code, said = lines(capsys, *arguments)
        assert code == 2 and "is elsewhere; expected a" in said and "on this machine" in said
    assert list(Path().iterdir()) == []


def test_a_path_is_a_folder_and_opens_no_connection() -> None:
    place = find_place("r.zarr")
    assert isinstance(place, Folder) and place.at == Path("r.zarr") and not place.is_there() and place.lost is None
