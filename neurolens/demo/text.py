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
import math
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
UNITS = (
    ("hours", "minutes", 60),
    ("kilograms", "grams", 1000),
    ("meters", "centimeters", 100),
    ("weeks", "days", 7),
    ("litres", "millilitres", 1000),
    ("years", "months", 12),
)


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
    """One line of arithmetic with its answer, in the manner of DM Mathematics."""
    a, b, c, d = rng.randint(1, 99), rng.randint(1, 99), rng.randint(2, 12), rng.randint(2, 9)
    few = [rng.randint(-50, 50) for _ in range(4)]
    unit, small, times = rng.choice(UNITS)
    questions = (
        lambda: f"What is {a} plus {b}? {a + b}",
        lambda: f"Calculate {a} - {b}. {a - b}",
        lambda: f"Multiply {a} and {c}. {a * c}",
        lambda: f"Work out {a} times {d}. {a * d}",
        lambda: f"What is {a * c} divided by {c}? {a}",
        lambda: f"Subtract {b} from {a}. {a - b}",
        lambda: f"Total of {a} and {b}. {a + b}",
        lambda: f"Evaluate ({a} + {b})*{c}. {(a + b) * c}",
        lambda: f"Solve {c}*x + {b} = {c * a + b} for x. {a}",
        lambda: f"Suppose {c}*k = {c * b}. Find k. {b}",
        lambda: f"Let f(x) = {c}*x - {b}. What is f({a})? {c * a - b}",
        lambda: f"Let g be {a} + {b}. Give g. {a + b}",
        lambda: f"Sort {', '.join(map(str, few))} in increasing order. {', '.join(map(str, sorted(few)))}",
        lambda: f"Put {', '.join(map(str, few))} in descending order. {', '.join(map(str, sorted(few, reverse=True)))}",
        lambda: f"Is {a} a multiple of {c}? {a % c == 0}",
        lambda: f"Does {d} divide {a}? {a % d == 0}",
        lambda: f"Is {a} a prime number? {a > 1 and all(a % n for n in range(2, a))}",
        lambda: f"List the prime factors of {a * d}. {', '.join(map(str, _prime_factors(a * d)))}",
        lambda: f"What is the remainder when {a} is divided by {c}? {a % c}",
        lambda: f"Calculate the greatest common divisor of {a * d} and {b * d}. {math.gcd(a, b) * d}",
        lambda: f"What is the lowest common multiple of {c} and {d}? {math.lcm(c, d)}",
        lambda: f"Which is bigger: {a} or {b}? {max(a, b)}",
        lambda: f"Which is the smallest value? {', '.join(map(str, few))}. {min(few)}",
        lambda: f"What is the nearest to {a} in {few[0]}, {few[1]}? {min(few[:2], key=lambda x: abs(x - a))}",
        lambda: f"Collect the terms in {c}*y + {a}*y. {c + a}*y",
        lambda: f"Expand (w + {c})*(w + {d}). w**2 + {c + d}*w + {c * d}",
        lambda: f"Factor h**2 + {c + d}*h + {c * d}. (h + {min(c, d)})*(h + {max(c, d)})",
        lambda: f"Simplify ({a}*u + {b}*u)/{1}. {a + b}*u",
        lambda: f"Differentiate {c}*z**2 + {a}*z with respect to z. {2 * c}*z + {a}",
        lambda: f"Find the second derivative of {c}*q**2 + {b}*q. {2 * c}",
        lambda: f"Round {a}.{b:02d} to the nearest integer. {a + (b >= 50)}",
        lambda: f"What is the tens digit of {100 * c + a}? {(100 * c + a) // 10 % 10}",
        lambda: f"In base 2, what is {a} as binary? {a:b}",
        lambda: f"How many {small} are there in {c} {unit}? {c * times}",
        lambda: f"Convert {d * times} {small} to {unit}. {d}",
        lambda: f"What is the next term in {a}, {a + c}, {a + 2 * c}, {a + 3 * c}? {a + 4 * c}",
        lambda: f"Square {d + 4}. {(d + 4) ** 2}",
        lambda: f"What is the square root of {(d + c) ** 2}? {d + c}",
        lambda: f"Express {c}/{c * d} as a simple fraction. 1/{d}",
        lambda: f"What is the probability of picking {c} of {c + d} letters? {c}/{c + d}",
    )
    return rng.choice(questions)()


def _prime_factors(n: int) -> list[int]:
    return [p for p in range(2, n + 1) if n % p == 0 and all(p % q for q in range(2, p))]
