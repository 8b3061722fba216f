"""versions: the parity tests under the oldest supported transformers, those where its layers changed, and the newest.

Each gets an environment of its own in a temporary folder: that version of transformers with the tokenizers and the hub
client it asks for come first, everything else is this environment's. Needs the package registry. The bound: every
test passes under every version. `--quick`: the oldest and the one that is installed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any

from _common import at_least, at_most, finish, quick_asked

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("4.46.3", "4.57.6", "5.0.0")
TESTS = ("tests/test_checkpoint.py", "tests/test_end_to_end.py", "tests/test_planted.py")


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A command's exit code and output."""
    return subprocess.run(command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True)


def environment(folder: Path, version: str) -> Path:
    """A virtual environment with this version before all that is installed here; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    site = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).stdout.strip())
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")  # later on the path than its own
    done = run([str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", f"transformers=={version}"])
    if done.returncode:
        raise SystemExit(f"cannot install transformers {version}: {done.stderr.strip().splitlines()[-1]}")
    return python


def parity(python: Path) -> dict[str, Any]:
    """What the tests say under an environment's Python."""
    report = "import json, torch, transformers as t, tokenizers as k, huggingface_hub as h;"
    report += "print(json.dumps({m.__name__: m.__version__ for m in (t, k, h, torch)}))"
    versions = json.loads(run([str(python), "-c", report]).stdout.splitlines()[-1])
    done = run([str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS], PYTHONPATH=str(ROOT))
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            print(f"    {line}")
    return {**versions, "exit": done.returncode, **counts}


def main() -> int:
    """Test under each version; 0 if all pass."""
    quick = quick_asked(__doc__, "the oldest version and the installed one")
    figures, bounds = {}, {}
    for version in (*(VERSIONS[:1] if quick else VERSIONS), "installed"):
        with tempfile.TemporaryDirectory() as folder:
            python = Path(sys.executable) if version == "installed" else environment(Path(folder), version)
            found = parity(python)
        print(f"transformers {found['transformers']}: {found}", flush=True)
        figures[version] = found
        bounds[f"failures_{version}"] = at_most(found["exit"] + found.get("failed", 0) + found.get("error", 0), 0)
        bounds[f"passed_{version}"] = at_least(found.get("passed", 0), 150)
    return finish("versions", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
