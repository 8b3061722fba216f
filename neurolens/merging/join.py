"""join: texts one after another are one text, and its blocks are made of theirs.

Nothing but arrays: which sequences, labels and documents the joined text has, and where the tokens of one of its blocks
are among those of the blocks of the texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurolens import NeurolensError
from neurolens.corpus import Block, Corpus
from neurolens.schema import row_bytes

MOST_LABELS = 1 << 16  # a label's number is a uint16
FLAGS = {"short_of_share"}  # notes that say whether, not how many


@dataclass(frozen=True)
class Piece:
    """A block of one of the texts, where it is in the joined text.

    text   which of the texts
    block  its block, whose sequences are counted from the start of that text
    first  number of its first sequence in the joined text
    """

    text: int
    block: Block
    first: int

    @property
    def ranks(self) -> int:
        """Bits of a neuron's row over the block, those after its last token included."""
        return row_bytes(self.block.tokens) * 8


def join_corpora(corpora: Sequence[Corpus], sources: Sequence[int]) -> Corpus:
    """The corpus of all sequences of the first, then of the second, and so on; of one corpus that one.

    Labels are one where their names are, in the order in which names first appear. `sources`: how many files each has,
    by which those of the later ones are numbered on. Notes add by label. Raises NeurolensError for corpora of several
    lengths of sequences, for several ids of `</s>`, and for too many labels.
    """
    if len(corpora) == 1:
        return corpora[0]
    if len(kinds := {(corpus.shape[1], corpus.eos) for corpus in corpora}) > 1:
        said = " and ".join(f"{positions} tokens a sequence with </s> = {eos}" for positions, eos in sorted(kinds))
        raise NeurolensError(f"texts of {said} do not join; give texts of one kind")
    names = tuple(dict.fromkeys(name for corpus in corpora for name in corpus.label_names))
    if len(names) > MOST_LABELS:
        raise NeurolensError(f"the texts have {len(names)} labels together; a run holds at most {MOST_LABELS}")
    labels, starts, origins = [], [], []
    first_token = first_source = 0
    for corpus, files in zip(corpora, sources, strict=True):
        number = np.array([names.index(name) for name in corpus.label_names], np.uint16)
        labels.append(number[corpus.label])
        starts.append(corpus.document_start + first_token)
        origins.append(corpus.document_source + np.array([first_source, 0]))
        first_token, first_source = first_token + corpus.tokens.size, first_source + files
    return Corpus(
        np.concatenate([corpus.tokens for corpus in corpora]),
        np.concatenate(labels),
        names,
        np.concatenate(starts),
        np.concatenate(origins),
        _add_notes([corpus.notes for corpus in corpora], names),
        corpora[0].eos,
    )


def _add_notes(notes: Sequence[Mapping[str, Mapping[str, int]]], names: Sequence[str]) -> dict[str, dict[str, int]]:
    added: dict[str, dict[str, int]] = {}
    for label in names:
        for note in (each[label] for each in notes if label in each):
            known = added.setdefault(label, {})
            for what, count in note.items():
                total = known.get(what, 0) + count
                known[what] = min(1, total) if what in FLAGS else total
    return added


def lay_out(blocks: Sequence[Sequence[Block]]) -> list[Piece]:
    """The blocks of all texts, by text, as they follow one another in the joined one."""
    pieces, first = [], 0
    for text, own in enumerate(blocks):
        pieces += [Piece(text, block, first + block.first_sequence) for block in own]
        first += sum(block.sequences for block in own)
    return pieces


def find_pieces(block: Block, laid: Sequence[Piece]) -> list[Piece]:
    """Those blocks of texts that have sequences of a block of the joined text, in order."""
    stop = block.first_sequence + block.sequences
    return [each for each in laid if each.first < stop and each.first + each.block.sequences > block.first_sequence]


def locate_tokens(order: np.ndarray, pieces: Sequence[Piece], orders: Sequence[np.ndarray]) -> np.ndarray:
    """Where the tokens of a block of the joined text are in its pieces: int64 `(token,)`, rank by rank.

    `order` integer `(token,)`: the block's context order, indices into the joined text; `orders` integer
    `(token of a piece,)` each: that of the piece, indices into its own text. A place is a rank of a piece, counted on
    from piece to piece by `Piece.ranks`.
    """
    places = np.full(len(order), -1, np.int64)
    before = 0
    for piece, own in zip(pieces, orders, strict=True):
        token = own.astype(np.int64) - piece.block.first_token
        rank = np.full(piece.block.tokens, -1, np.int64)
        if len(token) == len(rank) and token.min() >= 0 and token.max() < len(rank):
            rank[token] = np.arange(len(rank))
        if (rank < 0).any():  # what gathers by places looks at none of them
            raise NeurolensError(f"the order of block {piece.block.index} is no order of its tokens")
        inside = order.astype(np.int64) - piece.first * piece.block.positions
        mine = (inside >= 0) & (inside < len(own))
        places[mine] = before + rank[inside[mine]]
        before += piece.ranks
    return places
