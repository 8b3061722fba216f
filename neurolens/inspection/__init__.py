"""Inspection: one pass over a run that reads all of it and says what holds and what is damaged.

A chunk carries its checksum, but metadata carry none, a chunk that is missing reads as zeros, and checksums can be
right over wrong contents: so all that follows from something else in the run is computed again and compared.

    findings = inspect_run(store, model)

findings.py holds what is found, the other modules the checks, by what they are about.
"""

from __future__ import annotations

from pathlib import Path

from neurolens.contrast import MOST_LABELS
from neurolens.inspection.arrays import check_arrays, note_foreign
from neurolens.inspection.attributes import check_attributes, check_marks, check_progress
from neurolens.inspection.chunks import check_chunks
from neurolens.inspection.findings import Findings
from neurolens.inspection.fingerprints import check_certificate, check_checkpoint
from neurolens.inspection.laws import check_laws
from neurolens.inspection.text import check_text
from neurolens.schema import expected_arrays
from neurolens.store import Store


def inspect_run(store: Store, model: Path | None) -> Findings:
    """Check after check; without attributes or the shape of the text nothing else can be told.

    `model`: the folder of the run's checkpoint; None: where the run says, if that is at hand.
    """
    seen = Findings(store)
    if not check_attributes(seen):
        seen.remarks.append("nothing else was checked: without the run's attributes and text it cannot be told")
        return seen
    check_marks(seen)
    check_progress(seen)
    seen.expected = expected_arrays(
        store.attrs,
        store.shape,
        seen.marks,
        vocabulary=(store.path / "vocabulary").is_dir(),
        most_labels=MOST_LABELS,
    )
    check_arrays(seen)
    check_chunks(seen)
    check_text(seen)
    check_laws(seen)
    check_certificate(seen)
    check_checkpoint(seen, model)
    note_foreign(seen)
    return seen
