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
from neurolens.inspection.kept import check_kept, read_scans
from neurolens.inspection.laws import check_laws
from neurolens.inspection.spools import check_spools
from neurolens.inspection.text import check_text
from neurolens.schema import expected_arrays
from neurolens.store import Store


def inspect_run(store: Store, model: Path | None, spool: Path | None = None) -> Findings:
    """Check after check; without attributes or the shape of the text nothing else can be told.

    `model`: the folder of the run's checkpoint; None: where the run says, if that is at hand. `spool`: the folder that
    collect was given for hidden states, beside the run's own.
    """
    seen = Findings(store, spool)
    if not check_attributes(seen):
        seen.remarks.append("nothing else was checked: without the run's attributes and text it cannot be told")
        return seen
    wrong = read_scans(seen)
    check_marks(seen)
    check_progress(seen)
    check_kept(seen, wrong)
    seen.expected = expected_arrays(
        store.attrs,
        store.shape,
        seen.marks,
        vocabulary=store.place.is_folder("vocabulary"),
        thinned=seen.thinned,
        most_labels=MOST_LABELS,
    )
    check_arrays(seen)
    check_chunks(seen)
    check_text(seen)
    check_laws(seen)
    check_spools(seen)
    check_certificate(seen)
    check_checkpoint(seen, model)
    note_foreign(seen)
    return seen
