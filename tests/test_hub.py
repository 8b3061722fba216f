"""Models by their name on the hub: from a cache laid out as the hub client lays it out, and from a hub of our own.

Nothing leaves this machine: the server of `Hub` answers on the loopback address what the hub's does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import random_texts
from safetensors.torch import load_file
from test_checkpoint import LAYOUTS

from neurolens import UsageError
from neurolens.cli import run as neurolens
from neurolens.hub import find_folder
from neurolens.store import Store

COMMIT, OLD_COMMIT = "a" * 40, "b" * 40


def lay_out_cache(home: Path, name: str, folder: Path, *, commit: str = COMMIT, refs: tuple[str, ...] = ("main",)):
    """A repository in the hub client's cache: blobs by hash, a snapshot of links, refs."""
    repo = home / "hub" / f"models--{name.replace('/', '--')}"
    (repo / "blobs").mkdir(parents=True, exist_ok=True)
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "snapshots" / commit).mkdir(parents=True)
    for file in folder.iterdir():
        blob = repo / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        (repo / "snapshots" / commit / file.name).symlink_to(Path("../../blobs") / blob.name)
    for ref in refs:
        (repo / "refs" / ref).write_text(commit)


def process(home: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own: the hub client reads its environment when it is imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def command_line(home: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return process(home, "-m", "neurolens.cli", *arguments, **environment)


LOOK = """
import sys
from neurolens.hub import find_folder
print(*find_folder(*sys.argv[1:], say=lambda line: print(line, file=sys.stderr)), sep="\\n")
"""


def look(home: Path, *arguments: str, **environment: str) -> tuple[Path, str, str]:
    """The folder and commit that `find_folder` finds, and what it says."""
    done = process(home, "-c", LOOK, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    folder, commit = done.stdout.splitlines()
    return Path(folder), commit, done.stderr


@pytest.fixture
def data(write_jsonl: Callable[..., Path]) -> Path:
    return write_jsonl("texts.jsonl", random_texts(12))


@pytest.fixture
def collected_locally(tiny_model: Path, data: Path, tmp_path: Path) -> Store:
    assert neurolens(["collect", str(tiny_model), str(data), "-o", str(tmp_path / "local.zarr")]) == 0
    return Store.open(tmp_path / "local.zarr")


def same_bits(run: Path, other: Store) -> bool:
    store = Store.open(run)
    return all((store.rows(i, slice(0, 72)) == other.rows(i, slice(0, 72))).all() for i in range(3))


def test_an_offline_cache_is_enough(tmp_path: Path, tiny_model: Path, data: Path, collected_locally: Store):
    lay_out_cache(tmp_path / "home", "some/opt-tiny", tiny_model)
    output = tmp_path / "r.zarr"
    done = command_line(tmp_path / "home", "collect", "some/opt-tiny", data, "-o", output, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert f"taken from the cache, commit {COMMIT}" in done.stderr
    attributes = Store.open(output).attrs
    assert attributes["model"]["id"] == "some/opt-tiny" and attributes["model"]["revision"] == COMMIT
    assert attributes["checkpoint"] == collected_locally.attrs["checkpoint"]
    assert same_bits(output, collected_locally)


def test_a_revision_in_an_offline_cache(tmp_path: Path, tiny_model: Path, post_ln_model: Path, data: Path):
    lay_out_cache(tmp_path / "home", "some/opt", tiny_model)
    lay_out_cache(tmp_path / "home", "some/opt", post_ln_model, commit=OLD_COMMIT, refs=("v1",))
    for revision, commit in (("v1", OLD_COMMIT), (OLD_COMMIT, OLD_COMMIT), ("main", COMMIT)):
        folder, found, said = look(tmp_path / "home", "some/opt", revision, HF_HUB_OFFLINE="1")
        assert found == folder.name == commit and f"commit {commit}" in said
    command = ("collect", "some/opt", data, "-o", tmp_path / "r.zarr", "--revision")
    done = command_line(tmp_path / "home", *command, "v1", "--dry-run", HF_HUB_OFFLINE="1")
    assert done.returncode == 0 and f"commit {OLD_COMMIT}" in done.stderr, done.stderr
    done = command_line(tmp_path / "home", *command, "v2", HF_HUB_OFFLINE="1")
    assert done.returncode == 1 and "the cache has no some/opt at revision v2" in done.stderr


def test_without_network_and_cache(tmp_path: Path, data: Path):
    offline = {"HF_HUB_OFFLINE": "1"}
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # the discard port: nobody answers
    for environment, reason in ((offline, "HF_HUB_OFFLINE is set"), (unreachable, "the hub cannot be reached")):
        output = tmp_path / "r.zarr"
        done = command_line(tmp_path / "home", "collect", "some/absent", data, "-o", output, **environment)
        last = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1 and last.startswith("neurolens: no folder some/absent, and ") and reason in last
        assert "give a local folder" in last and "Traceback" not in done.stderr
        assert not output.exists()


def test_a_cache_that_lacks_the_weights(tmp_path: Path, tiny_model: Path, data: Path):
    shutil.copytree(tiny_model, tmp_path / "torn", ignore=shutil.ignore_patterns("*.safetensors"))
    lay_out_cache(tmp_path / "home", "some/opt", tmp_path / "torn")
    output = tmp_path / "r.zarr"
    done = command_line(tmp_path / "home", "collect", "some/opt", data, "-o", output, HF_HUB_OFFLINE="1")
    assert done.returncode in (1, 2) and "has no weights" in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "a/b/c", "some/opt-tiny/", "a b", "-x/y", "../../x"])
def test_what_is_neither_folder_nor_name(name: str):
    with pytest.raises(UsageError, match="no model folder"):
        find_folder(name)
    with pytest.raises(UsageError, match="no model folder"):
        find_folder(Path("some/opt"))  # a Path is a folder


def test_a_local_folder_has_no_revision(tiny_model: Path):
    with pytest.raises(UsageError, match="local folder and has no --revision v1"):
        find_folder(tiny_model, "v1")


# -- a hub of our own ----------------------------------------------------------------------------------------------


class Hub:
    """Answers as the hub does for the files of some folders; `asked` lists what was downloaded."""

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = self.path.split("?")[0].strip("/")
                for name, folder in repositories.items():
                    if path.startswith(f"api/models/{name}"):
                        rest = path.removeprefix(f"api/models/{name}").strip("/").split("/")
                        if rest[0] == "tree":
                            files = [
                                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": hash_of(f)}
                                for f in sorted(folder.iterdir())
                            ]
                            return self.send(200, json.dumps(files).encode(), body)
                        if rest[0] == "revision" and rest[1] not in ("main", COMMIT):
                            return self.send(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
                        siblings = [{"rfilename": f.name} for f in sorted(folder.iterdir())]
                        found = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": []}
                        return self.send(200, json.dumps(found).encode(), body)
                    if path.startswith(f"{name}/resolve/{COMMIT}/"):
                        file = folder / path.rsplit("/", 1)[1]
                        if not file.is_file():
                            return self.send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
                        if body:
                            hub.asked.append(file.name)
                        headers = {"ETag": f'"{hash_of(file)}"', "X-Repo-Commit": COMMIT}
                        return self.send(200, file.read_bytes(), body, headers)
                return self.send(404, b"{}", body, {"X-Error-Code": "RepoNotFound"})

            def send(self, code: int, content: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
                self.send_response(code)
                for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                    self.send_header(key, value)
                self.end_headers()
                if body:
                    self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture
def hub_of() -> Iterator[Callable[[dict[str, Path]], Hub]]:
    hubs: list[Hub] = []

    def make(repositories: dict[str, Path]) -> Hub:
        hubs.append(Hub(repositories))
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.close()


def repository(model: Path, folder: Path, layout: str, *others: str) -> Path:
    """A checkpoint with what else the hub's repositories hold."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    LAYOUTS[layout](folder, load_file(model / "model.safetensors"))
    for other in ("tf_model.h5", "flax_model.msgpack", "README.md", "LICENSE.md", "run.py", *others):
        (folder / other).write_bytes(b"not to be fetched")
    return folder


@pytest.mark.parametrize(
    ("layout", "others"),
    [
        ("bin", ()),
        ("sharded bin", ("flax_model-00001-of-00002.msgpack",)),
        ("safetensors", ("pytorch_model.bin",)),
        ("sharded safetensors", ("pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json")),
    ],
)
def test_what_is_fetched_from_the_hub(
    hub_of: Any, tmp_path: Path, tiny_model: Path, data: Path, collected_locally: Store, layout: str, others: Any
):
    folder = repository(tiny_model, tmp_path / "repository", layout, *others)
    hub = hub_of({"some/opt": folder})
    fetched, commit, _ = look(tmp_path / "home", "some/opt", HF_ENDPOINT=hub.url)
    weights = {f.name for f in folder.iterdir() if f.suffix in (".bin", ".safetensors") or "index" in f.name}
    wanted = {"config.json", "tokenizer.json", "tokenizer_config.json", *(weights - set(others))}
    assert commit == COMMIT and {f.name for f in fetched.iterdir()} == wanted
    assert set(hub.asked) == wanted and len(hub.asked) == len(wanted)
    assert neurolens(["collect", str(fetched), str(data), "-o", str(tmp_path / "r.zarr")]) == 0
    assert same_bits(tmp_path / "r.zarr", collected_locally)
    # once fetched it is there, also with the hub gone
    hub.close()
    again, _, said = look(tmp_path / "home", "some/opt", HF_ENDPOINT=hub.url)
    assert again == fetched and "taken from the cache" in said


def test_a_run_of_a_model_from_the_hub_is_continued_without_it(
    hub_of: Any, tmp_path: Path, tiny_model: Path, data: Path, collected_locally: Store
):
    hub = hub_of({"some/opt": repository(tiny_model, tmp_path / "repository", "bin")})
    output = tmp_path / "r.zarr"
    done = command_line(tmp_path / "home", "collect", "some/opt", data, "-o", output, HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert same_bits(output, collected_locally)
    assert Store.open(output).attrs["model"]["revision"] == COMMIT
    hub.close()
    again = command_line(tmp_path / "home", "collect", "some/opt", data, "-o", output, HF_ENDPOINT=hub.url)
    assert again.returncode == 0 and "taken from the cache" in again.stderr and "nothing to do" in again.stderr


def test_names_and_revisions_the_hub_does_not_know(hub_of: Any, tmp_path: Path, tiny_model: Path, data: Path):
    hub = hub_of({"some/opt": repository(tiny_model, tmp_path / "repository", "bin")})
    output = tmp_path / "r.zarr"
    absent = command_line(tmp_path / "home", "collect", "some/other", data, "-o", output, HF_ENDPOINT=hub.url)
    assert absent.returncode == 2
    assert "no model 'some/other' on the hub, and no folder of that name" in absent.stderr.strip().splitlines()[-1]
    command = ("collect", "some/opt", data, "-o", output, "--revision", "v9")
    absent = command_line(tmp_path / "home", *command, HF_ENDPOINT=hub.url)
    assert absent.returncode == 2 and "some/opt has no revision 'v9'" in absent.stderr.strip().splitlines()[-1]
    assert hub.asked == [] and not output.exists()
