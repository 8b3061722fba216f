"""Fingerprints: those of the certificate and of the checkpoint, if it is at hand, against those of the run."""

from __future__ import annotations

from pathlib import Path

from neurolens import NeurolensError, first_line
from neurolens.certificate import Certificate
from neurolens.checkpoint import Checkpoint
from neurolens.hub import cached_folder
from neurolens.inspection.findings import Damage, Findings, brief


def check_certificate(seen: Findings) -> None:
    """The certificate, if there is one, is of this run."""
    if not seen.store.place.is_folder("certificate"):
        seen.remarks.append("not certified")
        return
    before, known = len(seen.damages), seen.store.attrs
    values = (seen.store.metadata("certificate") or {}).get("attributes")
    try:
        if values == {}:  # stopped while it was written
            seen.remarks.append("not certified")
            return
        if not isinstance(values, dict):
            raise NeurolensError("no readable certificate")
        certificate = Certificate.from_dict(values)
        for name in ("checkpoint", "corpus_fingerprint", "dtype"):
            if getattr(certificate, name) != known[name]:
                raise NeurolensError(f"{name} {brief(getattr(certificate, name))}")
        if [layer.layer for layer in certificate.layers] != seen.store.layers:
            raise NeurolensError("other layers")
    except NeurolensError as error:
        seen.damage("certificate", first_line(error), "the certificate of this run", ("certificate",))
    seen.holds("certificate: readable, of this run", before)


def check_checkpoint(seen: Findings, model: Path | None) -> None:
    """The model's files, if they are at hand, against the run's fingerprints."""
    known, before = seen.store.attrs, len(seen.damages)
    name, revision = known["model"]["id"], known["model"].get("revision")
    folder = model or find_checkpoint(name, revision)
    if folder is None:
        seen.remarks.append(f"the checkpoint {name} is not at hand and was not compared; give it with --model")
        return
    try:
        checkpoint = Checkpoint(folder)
        found = {"checkpoint": checkpoint.fingerprint(), "tokenizer": checkpoint.tokenizer_fingerprint()}
    except (NeurolensError, OSError) as error:
        found = {"checkpoint": first_line(error), "tokenizer": known["tokenizer"]}
    for kind in ("checkpoint", "tokenizer"):
        if found[kind] != known[kind]:
            mends = "give the one the run was made with, with --model; the run itself is not touched"
            wanted = f"the run's {kind}, {brief(known[kind])}"
            seen.damages.append(Damage(str(folder), f"{kind} {brief(found[kind])}", wanted, mends))
    seen.holds(f"checkpoint: {folder} has the fingerprints of the run", before)


def find_checkpoint(model: str | Path, revision: str | None = None) -> Path | None:
    """The folder of a checkpoint that is at hand; None if it would have to be fetched."""
    return Path(model) if Path(model).is_dir() else cached_folder(str(model), revision)
