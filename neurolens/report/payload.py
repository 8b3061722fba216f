"""payload: arrays → blobs of text in a page, and what is told beside them → JSON that a page can hold.

A blob is gzip in base64: 4 bytes with the length h of the header (little endian), h bytes of JSON
`{name: [dtype, shape, offset]}`, padded with spaces so that arrays are aligned, then arrays, little endian, each at
`offset` from the end of the header, a multiple of 8. A browser unpacks it without help (`DecompressionStream`), and
its arrays are views.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

ALIGNED = 8  # bytes: the largest element
LEVEL = 6  # of gzip: 9 takes three times as long for 1% less
DTYPES = {"u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"}  # those that a browser has typed arrays of


class Payload:
    """The blobs of a page. The same arrays twice, a vocabulary that runs share, are one blob."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def add(self, arrays: Mapping[str, np.ndarray]) -> str:
        """Put arrays into the page together; the id of their blob. Raises TypeError for a type that browsers lack."""
        text = base64.b64encode(gzip.compress(pack(arrays), LEVEL, mtime=0)).decode()
        return self._ids.setdefault(text, f"b{len(self._ids)}")

    def blobs(self) -> list[tuple[str, str]]:
        """(id, base64) of each."""
        return [(name, text) for text, name in self._ids.items()]


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as one string of bytes. Raises TypeError for a type that browsers have no array of."""
    header: dict[str, Any] = {}
    contents: list[bytes] = []
    at = 0
    for name, values in arrays.items():
        if (dtype := values.dtype.str[1:]) not in DTYPES:
            raise TypeError(f"{name} is {values.dtype}; expected one of {', '.join(sorted(DTYPES))}")
        header[name] = [dtype, list(values.shape), at]
        content = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
        contents.append(content + bytes(-len(content) % ALIGNED))
        at += len(contents[-1])
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-(4 + len(head)) % ALIGNED)
    return len(head).to_bytes(4, "little") + head + b"".join(contents)


def to_script(value: Any) -> str:
    """JSON that nothing in a page takes for markup or an end of line; numbers that are none are null.

    >>> to_script({"</script>": float("nan")})
    '{"\\\\u003c/script\\\\u003e":null}'
    """
    text = json.dumps(_plain(value), separators=(",", ":"))  # ASCII: a lone surrogate is \udXXX
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):  # JSON has no NaN; seven digits are what a page can show
        return float(f"{value:.7g}") if value - value == 0 else None
    return value
