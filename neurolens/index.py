"""index: the file beside the runs of a study that says what they differ in, and which were done as the job asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neurolens import NeurolensError
from neurolens.comparison.members import STUDY
from neurolens.durable import writing
from neurolens.jobs import Job, RunSpec
from neurolens.keep import is_finished
from neurolens.store import Store


class Index:
    """The file that says which runs a study has, what factors they have, and which are done as asked."""

    def __init__(self, folder: Path, job: Job) -> None:
        self.folder, self.job = folder, job
        known = read_index(folder)
        self._done = {name: run.get("done") for name, run in known.items() if isinstance(run, dict)}

    def is_done(self, run: RunSpec) -> bool:
        """Whether a run is there, whole, and was made as is asked now."""
        if self._done.get(run.output) != run.digest():
            return False
        try:
            return is_finished(Store.open(self.folder / run.output))
        except NeurolensError:
            return False

    def mark(self, run: RunSpec) -> None:
        """Say that a run is done."""
        self._done[run.output] = run.digest()
        self.write()

    def write(self) -> None:
        """Write the file, whole."""
        runs = {
            run.output: {"model": run.model, "factors": run.factors, "done": self._done.get(run.output)}
            for run in self.job.runs
        }
        with writing(self.folder / STUDY) as file:
            file.write((json.dumps({"study": self.job.name, "runs": runs}, indent=1) + "\n").encode())


def read_index(folder: Path) -> dict[str, Any]:
    """The runs of the study in a folder by their names, as `study.json` has them; none if there is none."""
    try:
        found = json.loads((folder / STUDY).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    runs = found.get("runs") if isinstance(found, dict) else None
    return runs if isinstance(runs, dict) else {}
