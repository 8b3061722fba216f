"""page: runs → the report, one HTML file that opens from the disk and asks for nothing.

Data stand in the page as JSON and as gzip in base64 (payload.py); its scripts make all that is seen of them, as text.
The page says by its content security policy that it loads nothing and runs no script but its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from neurolens import IncompleteError, UsageError, __version__
from neurolens.durable import writing
from neurolens.progress import Progress
from neurolens.report.charts import draw_charts
from neurolens.report.gather import gather_run
from neurolens.report.payload import Payload, to_script
from neurolens.run import Run

ASSETS = Path(__file__).parent / "assets"
# in order: each uses those before it
SCRIPTS = ("text", "dom", "data", "classes", "panel", "chart", "context", "overview", "columns", "table", "verdict")
SCRIPTS += ("neuron", "token", "app")


def write_report(runs: Sequence[Run], path: str | Path) -> Path:
    """Write the report of analysed runs to one file, whole or not at all; what is there is replaced.

    Raises UsageError for no run or no folder, NeurolensError for runs that
    are not analysed or are damaged, IncompleteError if the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent}; make it, or give another --output")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file, for example {path / 'report.html'}")
    page = render_report(runs)
    try:
        with writing(path) as file:
            file.write(page.encode())
    except OSError as error:
        raise IncompleteError(f"cannot write {path}: {error.strerror or error}; make room, or give another") from error
    return path


def render_report(runs: Sequence[Run]) -> str:
    """The report of analysed runs as HTML; the same runs give the same text. Raises as `write_report`."""
    if not runs:
        raise UsageError("no run to report; give at least one analysed run")
    payload = Payload()
    with Progress("report", sum(len(run.store.layers) for run in runs), "layers") as progress:
        told = [gather_run(run, payload, progress.update) for run in runs]
    title = " · ".join(run.name for run in runs)
    meta = {"format": 1, "title": title, "version": __version__, "runs": told, "charts": draw_charts(runs)}
    return _template().render(
        title=title,
        meta=Markup(to_script(meta)),
        blobs=payload.blobs(),
        styles=Markup(_asset("page.css")),
        scripts=[(name, Markup(_asset(f"{name}.js"))) for name in SCRIPTS],
        runs=told,
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_asset("page.html"))


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
