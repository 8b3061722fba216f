"""Vocabulary: the bytes that each token id stands for, so that a run shows text when its checkpoint is gone.

Bytes and not text: byte-level tokenizers (OPT's) cut characters in two, and only the bytes of both tokens together are
the character again. What a token says is anybody's (control characters, marks that turn a line round, a `</script>`, a
megabyte): it is never interpreted here, and whoever prints it escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from neurolens import NeurolensError

if TYPE_CHECKING:
    from neurolens.checkpoint import Checkpoint
    from neurolens.store import Store


class Vocabulary:
    """Token ids 0 … V−1 and the bytes each stands for. An id that stands for none, as rows that only pad an embedding,
    is not *real* and reads as `⟨id⟩`; so does every id of `Vocabulary.unknown()`.

    content  uint8 `(byte,)`: the bytes of all ids, one after the other
    start    int64 `(V + 1,)`: those of id i are `content[start[i]:start[i + 1]]`

    Raises NeurolensError if `start` does not divide `content`.
    """

    def __init__(self, content: np.ndarray, start: np.ndarray) -> None:
        sound = content.dtype == np.uint8 and start.dtype.kind in "iu" and content.ndim == start.ndim == 1
        if not sound or not len(start) or start[0] or start[-1] != len(content) or (start[1:] < start[:-1]).any():
            raise NeurolensError(
                f"the vocabulary is damaged: {len(content)} bytes and {len(start)} boundaries that do not divide them "
                "into tokens; collect the run anew"
            )
        self.start = start.astype(np.int64)
        self._raw, self._at = content.tobytes(), self.start.tolist()

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Vocabulary:
        """The vocabulary of a model: V is its `vocab_size`, and its tokenizer may have fewer tokens, with holes.

        Raises NeurolensError if the checkpoint has no readable tokenizer.
        """
        return cls.from_tokenizer(checkpoint.tokenizer(), int(checkpoint.config["vocab_size"]))

    @classmethod
    def from_tokenizer(cls, tokenizer: Any, size: int) -> Vocabulary:
        """From a Hugging Face tokenizer, ids from `size` on left out.

        With a byte-level decoder the exact bytes of each token; else, UTF-8, what the token adds to the text when
        another one stands before it (a decoder of words puts a space there).
        """
        names = {id_: name for name, id_ in sorted(tokenizer.get_vocab().items()) if 0 <= id_ < size}
        added = {id_: str(token) for id_, token in tokenizer.added_tokens_decoder.items() if 0 <= id_ < size}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if type(getattr(backend, "decoder", None)).__name__ == "ByteLevel":
            tokens = {id_: _from_alphabet(name) for id_, name in names.items()}
            tokens |= {id_: _utf8(name) for id_, name in added.items()}
        else:
            tokens = _following(tokenizer, names | added)
        return cls.from_bytes([tokens.get(id_, b"") for id_ in range(size)])

    @classmethod
    def from_bytes(cls, tokens: Sequence[bytes]) -> Vocabulary:
        """From the bytes of every id, empty for an id that is not real."""
        start = np.zeros(len(tokens) + 1, np.int64)
        np.cumsum([len(token) for token in tokens], out=start[1:])
        return cls(np.frombuffer(b"".join(tokens), np.uint8), start)

    @classmethod
    def unknown(cls) -> Vocabulary:
        """The vocabulary of which nothing is known: length 0, and every id reads as `⟨id⟩`."""
        return cls.from_bytes([])

    @classmethod
    def read(cls, store: Store) -> Vocabulary:
        """That of a run; of one that has none, `unknown`. Raises NeurolensError if what is stored is damaged."""
        if not store.has("vocabulary"):
            return cls.unknown()
        content, start = store.read("vocabulary/bytes"), store.read("vocabulary/start")
        try:
            return cls(content, start)
        except NeurolensError as error:
            raise NeurolensError(f"{store.path}: {error}") from error

    def arrays(self) -> dict[str, np.ndarray]:
        """What the store keeps, by name: `bytes` uint8 `(byte,)`, `start` int64 `(V + 1,)`."""
        return {"bytes": np.frombuffer(self._raw, np.uint8), "start": self.start}

    @cached_property
    def real(self) -> np.ndarray:
        """The ids that stand for something, int64 ascending; the model's other rows are padding."""
        return np.flatnonzero(np.diff(self.start)).astype(np.int64)

    def __len__(self) -> int:
        return len(self._at) - 1

    def __getitem__(self, id_: int) -> bytes:
        """The bytes of an id; empty if it is not real or not there."""
        return self._raw[self._at[id_] : self._at[id_ + 1]] if 0 <= id_ < len(self) else b""

    def text(self, ids: Iterable[int]) -> str:
        """What ids in reading order say together; bytes that are no character are �, ids that are not real `⟨id⟩`.

        Negative ids, which stand where an n-gram has no token, are left out.

        >>> Vocabulary.from_bytes([b"a", "é".encode()[:1], "é".encode()[1:]]).text([-1, 0, 1, 2, 3, 1])
        'aé⟨3⟩�'
        """
        return self.content(ids).decode(errors="replace")

    def content(self, ids: Iterable[int]) -> bytes:
        """The bytes of what ids in reading order say together, of which `text` is the text."""
        return b"".join(self[id_] or f"⟨{id_}⟩".encode() for id_ in map(int, ids) if id_ >= 0)

    def token(self, id_: int) -> str:
        """What one id says by itself."""
        return self.text([id_])

    def texts(self, errors: str = "replace") -> list[str]:
        """What each id says by itself, V of them. With `errors="surrogateescape"` no two that differ in their bytes
        are the same, though some are no text that can be printed."""
        return [self.content([id_]).decode(errors=errors) for id_ in range(len(self))]

    def around(self, ids: Sequence[int], at: int) -> tuple[str, str, str]:
        """The text of ids in three: what is before the one at place `at`, that one, what is after.

        Where a character is split over tokens, the middle has the whole of it.

        >>> Vocabulary.from_bytes([b"a", "é".encode()[:1], "é".encode()[1:]]).around([0, 1, 2, 0], 2)
        ('a', 'é', 'a')
        """
        characters = self.content(ids).decode(errors="surrogateescape")  # a byte that is no character: one each
        ends = np.cumsum([len(c.encode(errors="surrogateescape")) for c in characters])
        begin = int(np.searchsorted(ends, len(self.content(ids[:at])), side="right"))
        end = int(np.searchsorted(ends, len(self.content(ids[: at + 1])), side="left")) + 1
        before, token, after = characters[:begin], characters[begin:end], characters[end:]
        return _shown(before), _shown(token), _shown(after)

    def apart(self, ids: Sequence[int]) -> list[str]:
        """The text of ids, a piece each; of tokens that share a character the first has the text of all, the others "".

        >>> Vocabulary.from_bytes([b"a", "é".encode()[:1], "é".encode()[1:]]).apart([0, 1, 2, 0])
        ['a', 'é', '', 'a']
        """
        contents = [self.content([id_]) for id_ in ids]
        characters = b"".join(contents).decode(errors="surrogateescape")
        ends = set(np.cumsum([len(c.encode(errors="surrogateescape")) for c in characters]).tolist())
        found, first, at, waiting = [""] * len(contents), 0, 0, b""
        for place, content in enumerate(contents):
            waiting, at = waiting + content, at + len(content)
            if at in ends:
                found[first], first, waiting = waiting.decode(errors="replace"), place + 1, b""
        return found


def _following(tokenizer: Any, names: Mapping[int, str]) -> dict[int, bytes]:
    """What each token adds to the text of a plain one before it; a token that adds nothing is its own name."""

    def decode(pairs: list[list[int]]) -> list[str]:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is not None:  # many times faster than one call each
            return backend.decode_batch(pairs, skip_special_tokens=False)
        return [tokenizer.decode(pair, clean_up_tokenization_spaces=False) for pair in pairs]

    special = set(tokenizer.all_special_ids)
    plain = sorted(set(names) - special) or sorted(names)
    before, alone = next(((id_, text) for id_ in plain if (text := decode([[id_]])[0])), (None, ""))
    ids = sorted(names)
    said = decode([[id_] if before is None else [before, id_] for id_ in ids])
    return {
        id_: _utf8(text[len(alone) :] if text.startswith(alone) else text) or _utf8(names[id_])
        for id_, text in zip(ids, said, strict=True)
    }


def _from_alphabet(name: str) -> bytes:
    """Bytes of a name in the byte alphabet, a character a byte; of another name its UTF-8, as the decoder has it."""
    try:
        return bytes(_ALPHABET[character] for character in name)
    except KeyError:
        return _utf8(name)


def _shown(text: str) -> str:
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _utf8(text: str) -> bytes:
    return text.encode(errors="replace")


def _alphabet() -> dict[str, int]:
    """The byte alphabet of GPT-2 (Radford et al. 2019, encoder.py), which OPT's tokenizer has: a printable byte is
    itself, the others are the characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _alphabet()
