"""Text that every Python installation has: *code*, *prose* and *math*, split once into train and held-out.

The paper's three domains without a download: modules of the standard library (code); their docstrings and
the topics of `pydoc` (prose); generated questions in the manner of DM Mathematics (math). The split is by a
hash of the module's or topic's name, so that a module's code and its docstrings fall on the same side, and
so that another Python version, whose modules differ a little, holds out the same names. Modules are read
with `ast` and never imported. Test packages are left out: several distributions do not ship them.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Split = Literal["train", "held"]

HELD_OUT_ONE_IN = 5
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})
SKIPPED_FILES = frozenset({"pydoc_data/topics.py"})
LABELS = ("code", "prose", "math")


def documents(split: Split, *, math_documents: int = 1500, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (text, label) for every document of `split`: all code, all prose, then the arithmetic.

    `split` is "train" or "held"; the two share no module, no topic and no random stream. The order is
    that of the sorted names and does not depend on the file system.
    """
    modules = [(name, text) for name, text in _modules() if is_held_out(name) == (split == "held")]
    for _, text in modules:
        yield text, "code"
    for _, text in modules:
        prose = "\n\n".join(_docstrings(text))
        if prose:
            yield prose, "prose"
    for name, text in sorted(_topics().items()):
        if is_held_out(f"topic {name}") == (split == "held"):
            yield text, "prose"
    generator = random.Random(f"{split} {seed}")
    for _ in range(math_documents):
        yield "\n".join(_question(generator) for _ in range(24)) + "\n", "math"


def is_held_out(name: str) -> bool:
    """Whether the document called `name` belongs to the held-out fifth."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % HELD_OUT_ONE_IN == 0


def _modules() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if SKIPPED_FOLDERS.intersection(name.parts) or name.as_posix() in SKIPPED_FILES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a module in another encoding, or one this user may not read
        if text.strip():
            yield name.as_posix(), text


def _docstrings(source: str) -> Iterator[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # templates and deliberately broken files
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text and len(text) >= 40:
                yield text


def _topics() -> dict[str, str]:
    try:
        return dict(importlib.import_module("pydoc_data.topics").topics)
    except ImportError:
        return {}


def _question(rng: random.Random) -> str:
    """One line of arithmetic with its answer."""
    a, b, c = rng.randint(1, 99), rng.randint(1, 99), rng.randint(2, 12)
    kind = rng.randrange(14)
    if kind == 0:
        return f"What is {a} plus {b}? {a + b}"
    if kind == 1:
        return f"Calculate {a} - {b}. {a - b}"
    if kind == 2:
        return f"Multiply {a} and {c}. {a * c}"
    if kind == 3:
        return f"What is {a * c} divided by {c}? {a}"
    if kind == 4:
        return f"Solve {c}*x + {b} = {c * a + b} for x. {a}"
    if kind == 5:
        return f"Let f(x) = {c}*x - {b}. What is f({a})? {c * a - b}"
    if kind == 6:
        values = [rng.randint(-50, 50) for _ in range(4)]
        return f"Sort {', '.join(map(str, values))} in increasing order. {', '.join(map(str, sorted(values)))}"
    if kind == 7:
        return f"Is {a} a multiple of {c}? {a % c == 0}"
    if kind == 8:
        return f"What is the remainder when {a} is divided by {c}? {a % c}"
    if kind == 9:
        return f"Which is bigger: {a} or {b}? {max(a, b)}"
    if kind == 10:
        return f"Collect the terms in {c}*y + {a}*y. {c + a}*y"
    if kind == 11:
        return f"Differentiate {c}*z**2 + {a}*z with respect to z. {2 * c}*z + {a}"
    if kind == 12:
        return f"Suppose {c}*k = {c * b}. Find k. {b}"
    return f"Evaluate ({a} + {b})*{c}. {(a + b) * c}"
