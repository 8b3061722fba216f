"""Fenced blocks of a page, and what runs them: commands in this process, Python statement by statement."""

from __future__ import annotations

import ast
import io
import os
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurolens.cli import run as neurolens

NOT_RUN = re.compile(r"<!-- not run:(.*)-->")


@dataclass(frozen=True)
class Block:
    """A fenced block: `language` of its fence, and why it is not run, None if it is. `line`: of its fence, from 1."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(path: Path, page: str) -> list[Block]:
    """The fenced blocks of a page. `<!-- not run: reason -->` on the line before a fence says why it is not run."""
    found, inside, before = [], None, ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if inside is not None and line.strip() == "```":
            start, language, reason, lines = inside
            found.append(Block(page, start, language, textwrap.dedent("\n".join(lines)) + "\n", reason))
            inside = None
        elif inside is not None:
            inside[3].append(line)
        elif fence := re.fullmatch(r"\s*```(\w*)", line):
            reason = NOT_RUN.fullmatch(before.strip())
            inside = number, fence[1], reason and reason[1].strip(), []
        before = line
    assert inside is None, f"{page}: the block of line {inside and inside[0]} has no end"
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command, up to a pipe: lines joined at `\\`, comments left out, `$(…)` a command of its own."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        for inner in (found for word in words for found in re.findall(r"\$\((neurolens [^)]*)\)", word)):
            yield shlex.split(inner)
        if words and "$(" not in line:
            yield words[: words.index("|")] if "|" in words else words


def in_text(page: str) -> list[list[str]]:
    """Commands in running text: `neurolens …` in code spans."""
    spans = re.findall(r"(?<!`)`(neurolens [^`]+)`(?!`)", re.sub(r"^\s*```.*?^\s*```", "", page, flags=re.M | re.S))
    return [shlex.split(" ".join(span.split()), comments=True) for span in spans]


@dataclass
class Folder:
    """A folder in which the examples of a page are run, one after another.

    substituted  what stands there in place of what an example says
    elsewhere    programs that are not run, and why not
    pending      pieces of examples that are left out as long as what they need is not there
    ready        makes a run at a path: what an example reads, and none before it has made
    names        what Python examples find defined
    """

    path: Path
    substituted: Mapping[str, str]
    elsewhere: Mapping[str, str]
    pending: Mapping[str, Callable[[], bool]]
    ready: Callable[[Path], object]
    names: dict[str, Any] = field(default_factory=dict)

    def run(self, block: Block) -> int:
        """Run a block that has a language to run; returns how many commands or statements that were."""
        runners = {"sh": self._commands, "python": self._statements, "toml": self._write}
        return runners[block.language](block) if block.language in runners else 0

    def _here(self, text: str) -> str:
        for said, there in self.substituted.items():
            text = text.replace(said, there)
        return text

    def _lacks(self, text: str) -> bool:
        return any(piece in text and not is_there() for piece, is_there in self.pending.items())

    def _commands(self, block: Block) -> int:
        done = 0
        for words in commands(self._here(block.text)):
            if self._lacks(" ".join(words)) or words[0] in self.elsewhere:
                continue
            if words[0] == "export":
                os.environ.update(dict(word.split("=", 1) for word in words[1:]))  # restored by the test
                continue
            assert words[0] == "neurolens", f"{block}: {words[0]!r} is not known here; say why in ELSEWHERE"
            self._neurolens(block, [found for word in words[1:] for found in self._expanded(word)])
            done += 1
        return done

    def _neurolens(self, block: Block, arguments: list[str]) -> None:
        outputs = {arguments[i + 1] for i, word in enumerate(arguments[:-1]) if word in ("-o", "--output")}
        for word in arguments:
            if word.endswith(".zarr") and word not in outputs and "://" not in word and not Path(word).exists():
                self.ready(self.path / word)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = neurolens(arguments)
        said = " ".join(err.getvalue().splitlines()[-1:])
        assert code == 0, f"{block}: neurolens {shlex.join(arguments)} exits with {code}: {said}"

    def _expanded(self, word: str) -> list[str]:
        """As a shell does for runs, of which there are two if there were none; `collect` itself expands data."""
        if "*" not in word or not word.endswith(".zarr"):
            return [word]
        found = sorted(str(path.relative_to(self.path)) for path in self.path.glob(word))
        return found or [word.replace("*", "a"), word.replace("*", "b")]

    def _statements(self, block: Block) -> int:
        text, done = self._here(block.text), 0
        for run in re.findall(r"\bopen\(\"([\w./-]+\.zarr)\"\)", text):
            if not Path(run).exists():
                self.ready(self.path / run)
        for statement in ast.parse(text).body:
            if self._lacks(ast.get_source_segment(text, statement) or ""):
                continue
            code = compile(ast.Module([statement], []), str(block), "exec")
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                exec(code, self.names)
            done += 1
        return done

    def _write(self, block: Block) -> int:
        """A job: into the file that its first line names, and it must be one."""
        from neurolens.jobs import read_job

        named = re.match(r"# ([\w-]+\.toml)\n", block.text)
        file = self.path / (named[1] if named else "job.toml")
        file.write_text(self._here(block.text), encoding="utf-8")
        assert read_job(file).runs
        return 1
