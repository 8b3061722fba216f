"""README and docs against the command line: what they name exists, and every example in them runs.

Examples are run in a folder where what they read stands under the names they use, made small: THERE and SUBSTITUTED say
what is what. What cannot be run says so on the page, `<!-- not run: why -->` before the block.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import random_texts
from fsspec.implementations.memory import MemoryFileSystem
from pages import Folder, commands, in_text, read_blocks

from neurolens import plots
from neurolens.analyze import analyze_run
from neurolens.card import Card
from neurolens.cli import cli
from neurolens.collect import collect
from neurolens.demo import demonstrate, text
from neurolens.run import Run
from neurolens.testing import random_opt

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
BLOCKS = {name: read_blocks(path, name) for name, path in PAGES.items()}
RUN, SHOWN = {"sh", "python", "toml"}, {"text"}  # languages of examples; of what they print, and of formulas
MODEL = {"hidden_size": 16, "ffn_dim": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
POSITIONS, TEXTS = 32, 4
FEW_FIGURES = ("dead", "covering")

# -- what stands in the folder ---------------------------------------------------------------------------------------


def lines(*, seed: int = 0, **more: Any) -> str:
    texts = random_texts(TEXTS, seed=seed, least=200)
    return "\n".join(json.dumps({"text": text, **more}) for text in texts) + "\n"


def table(path: Path) -> None:
    rows = [{"content": text, "meta": {"language": "ab"[i % 2]}} for i, text in enumerate(random_texts(TEXTS))]
    pq.write_table(pa.Table.from_pylist(rows), path)


def zst(path: Path, text: str) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as file:
        file.write(text.encode())


def first_and_last() -> str:
    """The job of the embedded model's training, of two runs."""
    head, *runs = (ROOT / "studies/demo-checkpoints.toml").read_text(encoding="utf-8").split("[[run]]")
    return "[[run]]".join((head, runs[0], runs[-1]))


CHAT = json.dumps({"messages": [{"role": "user", "content": random_texts(1, least=300)[0]}]}) + "\n"
THERE: dict[str, Callable[[Path], object]] = {
    "wiki.jsonl.zst": lambda path: zst(path, lines(seed=1)),
    "wiki.jsonl": lambda path: path.write_text(lines(seed=1)),
    "wiki.txt.xz": lambda path: path.write_bytes(lzma.compress(lines(seed=1).encode())),
    "code.txt": lambda path: path.write_text(lines(seed=2)),
    "code/a.jsonl": lambda path: path.write_text(lines(seed=2)),
    "novels/a.txt": lambda path: path.write_text(lines(seed=3)),
    "papers/a.txt": lambda path: path.write_text(lines(seed=4)),
    "before.jsonl": lambda path: path.write_text(lines(seed=5)),
    "after.jsonl": lambda path: path.write_text(lines(seed=6)),
    "chats.jsonl.gz": lambda path: path.write_bytes(gzip.compress(CHAT.encode())),
    "data/a.parquet": table,
    "pile/val.jsonl.zst": lambda path: zst(path, lines(meta={"pile_set_name": "Github"})),
    "SlimPajama-627B/validation/a.jsonl": lambda path: path.write_text(lines(meta={"redpajama_set_name": "C4"})),
    "docs/a.md": lambda path: path.write_text(lines(seed=7)),
    "neurolens/a.py": lambda path: path.write_text(lines(seed=8)),
    "studies/demo-checkpoints.toml": lambda path: path.write_text(first_and_last()),
}
MODELS = (
    *(f"facebook/opt-{size}" for size in ("125m", "1.3b", "6.7b", "66b")),
    *(f"checkpoints/step{step}" for step in (0, 250, 500, 50000)),
    "opt-1.3b",
    "path/to/opt-1.3b",
    "neurolens/demo/model",
)
READY = ("before", "after", "code", "docs", "math", "prose")  # labels of a run that an example reads and does not make

SUBSTITUTED = {
    "hf:allenai/c4:en:validation": "wiki.jsonl",
    "hf:allenai/c4:en": "wiki.jsonl",
    "hf:stanfordnlp/imdb:test -o imdb.zarr --tokens 1M --label-key label": "wiki.jsonl -o imdb.zarr",
    "/data/pile/*.jsonl.zst": "pile/*.jsonl.zst",
    "/shared/": "shared/",
    "s3://bucket/": "memory://bucket/",
    "demo:": "wiki.jsonl",  # all of it is tokenised, whatever is taken of it: 10 s
    "--device cuda": "--device cpu",
    '"cuda"': '"cpu"',
    "threads = 8": "threads = 1",
    "--block-tokens 32k": "--block-tokens 512 --batch-tokens 256",
    "3.1072": "3.50",  # the model here has 4 layers of 64 neurons
    "(3, 1072)": "(3, 50)",
    "2.3249": "2.49",
}
ELSEWHERE = {
    "pip": "all of it is installed where tests run",
    "make": "a test holds that there are such targets",
    "eval": "changes the shell; the command within is run, and tests/test_cli.py hands its script to the shells",
    "cd": "every page has its folder",
    "export": "sets what the commands after it read",
}
PENDING: dict[str, Callable[[], bool]] = {
    "neurolens report": lambda: "report" in cli.commands,
    ".contexts(": lambda: callable(getattr(Card, "contexts", None)),
    ".plot.": lambda: hasattr(Run, "plot"),
}
NAMES = {"database": [SimpleNamespace(body=text, language="en") for text in random_texts(TEXTS, least=200)]}
"""What Python examples find defined."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a run that has all labels of READY, analysed."""
    folder = tmp_path_factory.mktemp("originals")
    random_opt(folder / "model", MODEL, vocab_size=272, positions=POSITIONS)
    texts = [(text, label) for i, label in enumerate(READY) for text in random_texts(TEXTS, seed=i, least=200)]
    collect(folder / "model", texts, folder / "run.zarr")
    analyze_run(folder / "run.zarr")
    return folder


@pytest.fixture
def folder(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """Where the examples of one page are run."""
    for name, make in THERE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        make(tmp_path / name)
    for name in MODELS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(originals / "model", tmp_path / name, copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("NEUROLENS_")]:
        monkeypatch.delenv(variable)
    before = dict(os.environ)
    monkeypatch.setattr(plots, "FIGURES", {name: plots.FIGURES[name] for name in FEW_FIGURES})
    # tests/test_plots.py looks at figures
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **options: file.write(b"drawn"))
    monkeypatch.setattr(text, "documents", lambda split: zip(random_texts(TEXTS, least=200), text.LABELS, strict=False))
    monkeypatch.setattr(demonstrate, "demonstrate", partial(demonstrate.demonstrate, model=originals / "model"))
    yield Folder(
        path=tmp_path,
        substituted=SUBSTITUTED,
        elsewhere=ELSEWHERE,
        pending=PENDING,
        ready=partial(shutil.copytree, originals / "run.zarr"),
        names=dict(NAMES),
    )
    os.environ.clear()
    os.environ.update(before)
    MemoryFileSystem.store.clear()


# -- examples ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("page", [name for name, found in BLOCKS.items() if any(b.language in RUN for b in found)])
def test_examples_run(page: str, folder: Folder) -> None:
    done = sum(folder.run(block) for block in BLOCKS[page] if block.reason is None)
    assert done or all(block.reason for block in BLOCKS[page] if block.language in RUN), "nothing was run"


def test_what_is_not_run_says_why_and_is_little() -> None:
    examples = [block for found in BLOCKS.values() for block in found if block.language in RUN]
    left_out = [block for block in examples if block.reason is not None]
    assert all(len(block.reason or "") > 10 for block in left_out), [str(b) for b in left_out if not b.reason]
    assert len(left_out) <= len(examples) / 5
    for page, path in PAGES.items():
        marks = path.read_text(encoding="utf-8").count("<!-- not run:")
        assert marks == sum(block.page == page for block in left_out), f"{page}: a mark stands before no example"


def test_every_block_has_a_language() -> None:
    for found in BLOCKS.values():
        for block in found:
            assert block.language in RUN | SHOWN, f"{block}: ```{block.language}; expected {', '.join(RUN | SHOWN)}"


def test_no_substitute_is_left_over() -> None:
    """What the tables name is named by some page."""
    text = "".join(path.read_text(encoding="utf-8") for path in (*PAGES.values(), *ROOT.glob("studies/*.toml")))
    for name in (*SUBSTITUTED, *MODELS, *PENDING):
        assert name in text, name
    for name in THERE:
        assert name in text or f"{name.rpartition('/')[0]}/" in text, name


# -- commands ----------------------------------------------------------------------------------------------------------


def said() -> Iterator[tuple[str, list[str]]]:
    """Every neurolens command of every page, in blocks and in running text: where, and its words without the first."""
    for page, found in BLOCKS.items():
        for block in found:
            shown = block.text
            if block.language == "text":  # `$ command` in what is printed
                shown = "\n".join(line[2:] for line in shown.splitlines() if line.startswith("$ "))
            if block.language in ("sh", "text"):
                yield from ((str(block), words[1:]) for words in commands(shown) if words[0] == "neurolens")
        yield from ((page, words[1:]) for words in in_text(PAGES[page].read_text(encoding="utf-8")))


def is_pending(words: list[str]) -> bool:
    text = f"neurolens {' '.join(words)}"
    return any(piece in text and not is_there() for piece, is_there in PENDING.items())


def test_every_command_and_option_that_is_said_exists() -> None:
    for where, words in said():
        if is_pending(words) or words[0].isupper() or words[0].startswith("-"):
            continue  # `neurolens COMMAND --help`, `neurolens --version`
        assert words[0] in cli.commands, f"{where}: there is no command {words[0]!r}"
        flags = {flag for option in cli.commands[words[0]].params for flag in option.opts} | {"--help", "-h"}
        for word in words[1:]:
            flag = word.split("=")[0]
            assert not re.fullmatch(r"--?[a-z][a-z-]*", flag) or flag in flags, f"{where}: {words[0]} has no {word}"


def test_every_command_in_a_block_is_whole() -> None:
    """Its arguments and values are such that the command would begin."""
    for page, found in BLOCKS.items():
        for block in (b for b in found if b.language == "sh"):
            for words in commands(block.text):
                if words[0] != "neurolens" or is_pending(words[1:]) or words[1:2] == ["COMMAND"]:
                    continue
                if any("$" in word for word in words):  # a variable of the shell stands for a number
                    words = [re.sub(r"\$\w+", "1", word) for word in words]
                try:
                    with cli.make_context("neurolens", words[1:2]):
                        cli.commands[words[1]].make_context(words[1], words[2:]).close()
                except click.ClickException as error:
                    pytest.fail(f"{page}:{block.line}: {' '.join(words)}: {error.format_message()}")


def test_every_command_is_in_an_example_that_runs() -> None:
    run = {
        words[1]
        for found in BLOCKS.values()
        for block in found
        if block.language == "sh" and block.reason is None
        for words in commands(block.text)
        if words[0] == "neurolens"
    }
    assert set(cli.commands) <= run


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    examples = [block.text for found in BLOCKS.values() for block in found if block.language == "sh"]
    found = {words[1] for text in examples for words in commands(text) if words[0] == "make"}
    assert {"demo", "test"} <= found
    for target in found:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


# -- links -------------------------------------------------------------------------------------------------------------

LATER = {"notebooks/": ROOT / "notebooks", "figures/report.png": ROOT / "neurolens" / "report"}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Files that are there, and headings that they have; LATER: links to what comes with a part of the package."""
    path = PAGES[page]
    text = re.sub(r"^\s*```.*?^\s*```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://") or any(name in target and not there.exists() for name, there in LATER.items()):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists() and linked.is_relative_to(ROOT), f"{page}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles]
            assert anchor in slugs, f"{page}: {target}"


# -- the tree ----------------------------------------------------------------------------------------------------------


def test_the_tree_has_every_module() -> None:
    text = PAGES["docs/architecture.md"].read_text(encoding="utf-8")
    for path in (ROOT / "neurolens").iterdir():
        name = path.name if path.suffix == ".py" else f"{path.name}/"
        if path.suffix == ".py" or (path / "__init__.py").exists():
            assert name == "__init__.py" or re.search(rf"(?<!\w){re.escape(name)}", text), name
