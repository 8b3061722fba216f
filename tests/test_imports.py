"""Imports point one way. Read from the source, wherever in a file they stand; and what an import really loads."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import neurolens

PACKAGE = Path(neurolens.__file__).parent

# A module imports only from layers above its own line. "" is the package itself, `neurolens/__init__.py`.
LAYERS = [
    {""},
    {"location", "comparison", "merging", "terminal", "sparkline", "display", "report"},
    {"display.html"},
    {"display.look"},
    {"display.tables", "display.contexts"},
    {"bits", "kernels", "sources", "weights", "demo", "demo.text", "budget", "durable", "shards"}
    | {"testing.rules", "testing.kills", "tables", "nulls", "shares", "bootstrap", "ranges", "progress"}
    | {"testing.browser", "report.payload", "report.passages"}
    | {"comparison.sizes", "comparison.factors", "comparison.estimates", "comparison.transitions"},
    {"compressed", "options", "locks", "lanes", "verdict", "display.runs", "information", "curves", "schema"}
    | {"comparison.lineage", "comparison.trends", "remote"}
    | {"testing.text", "testing.truth", "testing.weights", "testing.checkpoint"},
    {"records", "profile", "context", "certificate", "display.triggers", "jobs", "engine", "place"}
    | {"display.promotions"}
    | {"testing.draft", "testing.disguise", "testing.shapes", "report.choose", "report.columns"},
    {"documents", "info", "triggers", "promotions", "display.cards"}
    | {"testing.tokens", "testing.ngrams", "testing.positions"},
    {"corpus", "hub", "arrays", "demo.train", "testing.planted"},
    {"bitmaps"},
    {"variables", "store", "checkpoint", "slots", "testing", "merging.join"},
    {"stream", "merging.together"},
    {"decoder", "parts", "nested", "committer", "merging.weave"},
    {"counts", "spool", "vocabulary", "tokens", "identity", "inspection.findings", "comparison.headlines"},
    {"plan", "loop", "comparison.anchors"},
    {"planner", "probe", "firing"},
    {"activity", "detectors", "contrast", "positional", "updates", "examples", "plots.text"}
    | {f"inspection.{checks}" for checks in ("attributes", "arrays", "chunks", "text", "laws", "fingerprints")}
    | {"inspection.spools"},
    {"scan", "projection", "reference", "plots.sheet", "card", "results", "comparison.change"},
    {"scanner", "report.marks"},
    {"plots.activity", "plots.ngrams", "plots.positions", "plots.contrast", "neuron", "facts", "inspection.kept"}
    | {"plots.changes", "comparison.rows"},
    {"plots.updates", "plots.positional", "plots.study"},
    {"plots.examples"},
    {"analyze", "plots", "export", "inspection", "mend"},
    {"plotting"},
    {"data", "run", "verify", "keep", "comparison.writeup"},
    {"report.gather", "report.charts"},
    {"report.page"},
    {"corpora", "comparison.members", "comparison.closing", "merging.counted"},
    {"merging.tally"},
    {"index", "collect", "compare", "merge"},
    {"certify", "study", "demo.run"},
    {"demo.demonstrate", "commands"},
    {"commands.record", "commands.derive", "commands.show"},
    {"cli"},
]
RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
PLOTS = {module for module in RANK if module.split(".")[0] == "plots"}
COMMANDS = {module for module in RANK if module.split(".")[0] == "commands"}
TESTING = {module for module in RANK if module.split(".")[0] == "testing"}

# Who may import what is not ours; None: anyone
HOMES = {
    "numpy": None,
    "scipy": {"information", "curves", "comparison.estimates"},
    "tqdm": {"progress"},
    "click": {"cli", "options", "jobs"} | COMMANDS,
    "pyarrow": {"compressed", "records", "export", "comparison.writeup"},
    "numba": {"bits", "kernels", "lanes", "ranges"},
    "llvmlite": {"kernels", "lanes"},
    "huggingface_hub": {"hub", "records"},
    "datasets": {"records"},
    "torch": {
        "decoder",
        "stream",
        "spool",
        "loop",
        "probe",
        "identity",
        "projection",
        "weights",
        "collect",
        "certify",
        "study",
        "reference",
        "demo.train",
    }
    | {"testing.checkpoint", "testing.shapes"},
    "transformers": {"decoder", "checkpoint", "reference", "testing.checkpoint", "testing.shapes", "demo.train"},
    "tokenizers": {"testing.checkpoint", "demo.train"},
    "safetensors": {"weights"},
    "zarr": {"arrays", "bitmaps", "store", "remote"},
    "google_crc32c": {"arrays"},
    "numcodecs": {"arrays"},
    "xxhash": {"slots", "spool"},
    "dask": {"engine"},
    "distributed": {"engine"},
    "dask_jobqueue": {"engine"},
    "matplotlib": PLOTS | {"plotting"},
    "jinja2": {"report.page"},
    "markupsafe": {"report.page"},
    "pandas": {"tables", "context", "triggers", "promotions"},
    "xarray": {"tables"},
}
ARRAYS_OF_COMPARISON = ("sizes", "factors", "lineage", "transitions", "estimates", "trends")
# What these must not load, not even through others
FREE_OF = {
    "torch": {"bits", "kernels", "documents", "corpus", "variables", "counts", "activity", "detectors", "tables"}
    | {"store", "export", "run", "plots", "vocabulary", "parts", "scan", "card", "neuron", "verdict"}
    | {"context", "firing"}
    | {"updates", "nulls", "shares", "information", "bootstrap", "curves", "positional", "contrast", "tokens"}
    | {"schema", "slots", "scanner", "mend", "inspection.kept", "inspection.spools"}
    | {"jobs", "engine", "locks", "shards", "location", "place", "remote"}
    | {"merging.join", "merging.together", "merging.weave"}
    | {f"inspection.{name}" for name in ("findings", "attributes", "arrays", "chunks", "text", "laws")}
    | {f"comparison.{name}" for name in (*ARRAYS_OF_COMPARISON, "headlines", "anchors", "members", "writeup")}
    | {"plots.study"},
    "zarr": {"bits", "kernels", "documents", "checkpoint", "corpus", "decoder", "variables", "counts", "activity"}
    | {"weights", "hub", "detectors", "tables", "plots", "vocabulary", "updates", "nulls", "shares", "projection"}
    | {"information", "bootstrap", "curves", "positional", "contrast", "tokens", "scan", "stream", "schema", "slots"}
    | {"merging.join", "location", "locks", "options"}
    | {f"comparison.{name}" for name in ARRAYS_OF_COMPARISON}
    | {"plots.study"},
    "matplotlib": set(RANK) - PLOTS - {"plotting", "demo.demonstrate", "compare", "study"}
    - {"commands.derive", "commands.show", "cli"},
    "jinja2": {"", "run", "tables", "plots", "report.gather", "report.charts", "options"},
    "numba": {"", "options", "export", "documents", "checkpoint", "corpus", "variables", "store", "tables"}
    | {"arrays", "bitmaps", "vocabulary", "updates", "nulls", "shares", "merging.join", "merging.together"},
    "numpy": {"", "options", "jobs", "engine", "locks", "shards", "location"}
    | {"documents", "checkpoint", "weights", "hub"},
}
# What a run's figures need is loaded once one is asked for, which is no matter of whoever opens a run
WHEN_ASKED = {"plotting": {"plots"}}
NAMES_ITS_MODULES_AT_RUN_TIME = {"", "demo.text"}  # importlib: the lazy names of the package; standard library modules
LEAVES = {*TESTING, "demo.train", "cli"}  # for people and tests; nothing of the package needs them


def module_of(path: Path) -> str:
    """`neurolens/demo/text.py` → `demo.text`; `neurolens/__init__.py` → ``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str, source: str, known: set[str], *, typing_only: bool = True) -> tuple[set[str], set[str]]:
    """(modules of the package, other packages) that the source imports, at its top or inside functions."""
    tree = ast.parse(source)
    if not typing_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                node.body = [ast.Pass()]
    full: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            home = node.module or ""
            if node.level:
                package = ["neurolens", *module.split(".")[: -node.level or None]]
                home = ".".join([*filter(None, package), *filter(None, [node.module])])
            names = {f"{home}.{alias.name}" for alias in node.names}
            modules = {
                name for name in names if name.removeprefix("neurolens.") in known and home.startswith("neurolens")
            }
            full |= modules | ({home} if names - modules else set())
    ours = {name.removeprefix("neurolens").removeprefix(".") for name in full if name.split(".")[0] == "neurolens"}
    others = {name.split(".")[0] for name in full} - {"neurolens"} - set(sys.stdlib_module_names)
    return ours, others


@cache
def graph(*, typing_only: bool) -> dict[str, tuple[set[str], set[str]]]:
    return {
        module: imports(module, source, set(SOURCES), typing_only=typing_only and module != "")
        for module, source in SOURCES.items()
    }


def test_imports_are_found_wherever_they_stand():
    source = """
import os, numpy.linalg
import neurolens.store
from neurolens import NeurolensError, counts
from neurolens.demo import text
from . import corpus
from .demo.train import main
if TYPE_CHECKING:
    import pandas
def f():
    import torch
    from neurolens.run import Run
"""
    known = {"store", "counts", "corpus", "demo", "demo.text", "demo.train", "run"}
    ours = {"", "store", "counts", "corpus", "demo.text", "demo.train", "run"}
    assert imports("bits", source, known) == (ours, {"numpy", "pandas", "torch"})
    assert imports("bits", source, known, typing_only=False) == (ours, {"numpy", "torch"})
    assert imports("demo.text", "from .train import main\nfrom ..bits import pack", known)[0] == {"demo.train", "bits"}


def test_every_module_has_its_place():
    assert sum(map(len, LAYERS)) == len(RANK), "a module stands in two layers"
    assert set(SOURCES) - set(RANK) == set(), "new modules: give them a layer in this file"
    assert set(RANK) - set(SOURCES) == set(), "these modules are gone"
    named = set().union(*(homes or set() for homes in HOMES.values()), *FREE_OF.values(), LEAVES)
    assert named - set(SOURCES) == set()


def test_modules_import_only_from_lower_layers():
    wrong = {
        f"{module or 'neurolens'} imports {other or 'neurolens'}"
        for module, (ours, _) in graph(typing_only=True).items()
        for other in ours
        if other not in RANK or RANK[other] >= RANK[module]
    }
    assert wrong == set()


def test_nothing_of_the_package_needs_its_leaves():
    edges = graph(typing_only=True)
    needed = {(module, leaf) for module in set(edges) - TESTING for leaf in edges[module][0] & LEAVES}
    assert needed == set()


def test_every_dependency_stays_at_home():
    wrong = set()
    for module, (_, others) in graph(typing_only=True).items():
        for other in others:
            homes = HOMES.get(other, set())
            if homes is not None and module not in homes:
                wrong.add(f"{module or 'neurolens'} imports {other}")
    assert wrong == set()


def reach(module: str) -> set[str]:
    """The module and all of the package that it imports, directly or not, at run time."""
    edges = graph(typing_only=False)
    seen, waiting = set(), {module}
    while waiting:
        seen |= waiting
        waiting = set().union(*(edges[other][0] - WHEN_ASKED.get(other, set()) for other in waiting)) - seen
    return seen


@pytest.mark.parametrize("dependency", FREE_OF)
def test_what_must_not_be_loaded_is_not_reached(dependency):
    edges = graph(typing_only=False)
    assert any(dependency in others for _, others in edges.values())
    through = {
        f"{module or 'neurolens'} reaches {dependency} through {other}"
        for module in FREE_OF[dependency]
        for other in reach(module)
        if dependency in edges[other][1]
    }
    assert through == set()


def test_modules_are_imported_by_statements():
    for module, source in SOURCES.items():
        called = {
            ast.unparse(node.func).split(".")[-1] for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
        }
        dynamic = called & {"import_module", "__import__", "exec", "run_module", "run_path"}
        assert not dynamic or module in NAMES_ITS_MODULES_AT_RUN_TIME, (module, dynamic)


# what an import really loads

HEAVY = {"torch", "numpy", "zarr", "numba", "llvmlite", "matplotlib", "transformers", "tokenizers", "safetensors"}
HEAVY |= {"scipy", "pandas", "xarray", "pyarrow", "datasets"}


def loaded_by(code: str, tmp_path: Path) -> set[str]:
    """Top-level packages that a fresh Python has loaded after running the code."""
    code += "\nimport json, sys\nprint('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import neurolens; dir(neurolens); neurolens.NeurolensError",
        "import neurolens.cli",
        "from neurolens.cli import run; assert run(['--help']) == 0",
        "from neurolens.cli import run; assert run(['collect', '--help']) == 0",
        "from neurolens.cli import run; assert run(['completion', 'fish']) == 0",
        "import os, contextlib; from neurolens.cli import run; os.environ |= {'COMP_WORDS': 'neurolens plot --', "
        "'COMP_CWORD': '2', '_NEUROLENS_COMPLETE': 'bash_complete'}\nwith contextlib.suppress(SystemExit): run([])",
        "from neurolens.cli import run; assert run(['no-such-command']) == 2",
    ],
)
def test_the_package_and_its_command_line_load_nothing_heavy(code, tmp_path):
    loaded = loaded_by(code, tmp_path)
    assert "neurolens" in loaded and loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("modules", "free_of"),
    [
        ("documents, checkpoint", HEAVY),
        ("variables, counts, activity, detectors, tables", {"torch", "zarr", "matplotlib", "pandas", "xarray"}),
        ("plots", {"torch", "zarr", "numba", "pandas", "xarray"}),
        ("run", {"torch", "matplotlib", "transformers", "pandas", "xarray", "pyarrow"}),
        ("export", {"torch", "matplotlib", "transformers", "pandas", "xarray"}),
    ],
)
def test_modules_load_no_more_than_they_say(modules, free_of, tmp_path):
    loaded = loaded_by(f"from neurolens import {modules}", tmp_path)
    assert "neurolens" in loaded and loaded & free_of == set()


# the names of the package


def test_names_of_the_package_are_what_their_modules_define():
    for name, home in neurolens._HOME.items():
        defined = {
            node.name
            for node in ast.parse(SOURCES[home.removeprefix("neurolens.")]).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assert neurolens._RENAMED.get(name, name) in defined
    assert set(neurolens.__all__) <= set(dir(neurolens))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        neurolens.nothing  # noqa: B018


@pytest.mark.parametrize("first", ["", "import neurolens.analyze", "from neurolens.analyze import analyze_run"])
def test_names_of_the_package_stay_what_they_are(first, tmp_path):
    """Importing any module of the package hides no public name (none is named like a module)."""
    names = "nl.open, nl.Run, nl.Corpus, nl.Counts, nl.Decoder, nl.Variable"
    code = f"import neurolens as nl\n{first}\nfor _ in range(2):\n    assert all(map(callable, [{names}]))"
    loaded_by(code, tmp_path)
