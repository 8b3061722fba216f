"""Text: token ids, labels and documents against the fingerprint and one another; their order; the vocabulary."""

from __future__ import annotations

import numpy as np

from neurolens import NeurolensError
from neurolens.inspection.findings import Findings, brief
from neurolens.vocabulary import Vocabulary


def check_text(seen: Findings) -> None:
    """Token ids, labels and documents against the fingerprint and one another; the order against the tokens; words."""
    store, attrs, before = seen.store, seen.store.attrs, len(seen.damages)
    if seen.sound("layer") and store.read("layer").tolist() != store.layers:
        seen.damage("layer", brief(store.read("layer").tolist()), f"{store.layers}, as the attributes")
    if seen.sound("tokens", "label", "document_start", "document_source"):
        corpus, vocab_size = store.corpus(), attrs["model"]["config"]["vocab_size"]
        least, most = int(corpus.tokens.min()), int(corpus.tokens.max())
        if least < 0 or most >= vocab_size:
            seen.damage("tokens", f"ids {least}…{most}", f"ids 0…{vocab_size - 1}")
        if (corpus.tokens[:, 0] != corpus.eos).any():
            seen.damage("tokens", "sequences that do not begin with </s>", f"id {corpus.eos} in column 0")
        if corpus.label.max() >= len(corpus.label_names):
            seen.damage("label", f"label {corpus.label.max()}", f"0…{len(corpus.label_names) - 1}")
        if (found := corpus.fingerprint()) != attrs["corpus_fingerprint"]:
            what = f"token ids, labels and label names with fingerprint {found[:12]}…"
            seen.damage("tokens", what, f"{brief(attrs['corpus_fingerprint'])}, as the attributes")
        start, flat = corpus.document_start, corpus.tokens.reshape(-1)
        inside = not len(start) or (start[0] > 0 and start[-1] < len(flat) and (np.diff(start) > 0).all())
        if not inside or (flat[start - 1] != corpus.eos).any():
            seen.damage("document_start", "starts that no </s> stands before", "ascending starts of documents")
        if len(corpus.document_source) != len(start):
            found = f"sources of {len(corpus.document_source)} documents"
            seen.damage("document_source", found, f"{len(start)}, as document_start")
        seen.holds(f"text: fingerprint {attrs['corpus_fingerprint'][:12]}…, {len(start):,} documents", before)
    if seen.sound("tokens", "order"):
        before, tokens, order = len(seen.damages), store.read("tokens"), store.read("order")
        wrong: list[str] = []
        for block in store.blocks:
            stretch = order[block.first_token : block.first_token + block.tokens]
            if not np.array_equal(block.order(tokens, attrs["eos"]), stretch):
                wrong.append(str(block.index))
        if wrong:
            found = f"block {', '.join(wrong)} in another order"
            seen.damage("order", found, "the context order of the tokens")
        seen.holds(f"order: the context order of {len(store.blocks)} blocks", before)
    if seen.sound("vocabulary/bytes", "vocabulary/start"):
        before = len(seen.damages)
        try:
            real = len(Vocabulary.read(store).real)
            seen.holds(f"vocabulary: {real:,} tokens", before)
        except NeurolensError:
            seen.damage("vocabulary/start", "boundaries that do not divide the bytes", "ascending ones")
