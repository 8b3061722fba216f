"""Compiled loops over set bits. Nothing but arrays in, arrays out; every loop releases the interpreter lock.

Rows are uint64 `(neurons, words)`, neuron-major, in the bit order of `bits.py`; codes say for each bit of a row
which category its token belongs to, −1 for none. Two ways of counting, one signature `(rows, codes)`:

`scatter`  any codes, few categories: a dense table `on[neuron, category]`.
`runs`     nested codes that only grow along a stretch of the row (context order): a sparse list of
           (category, on) for each neuron, no table of neurons × categories.

Unsigned indices and `cttz` matter: signed indices cost four times as much (a sign test and a wrap-around each).
Measured on one core at 2–2.7 GHz (`benchmarks/tabulate.py` prints the figures of the machine it runs on).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types, uint32, uint64
from numba.extending import intrinsic

# numba compiles to machine code; its type system is not Python's
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false


@intrinsic
def _trailing_zeros(typingctx, word):  # pragma: no cover - compiled
    """Zeros below the lowest set bit of a uint64 that is not 0: one machine instruction."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


@njit(nogil=True, cache=True)
def scatter(rows, codes, on):  # pragma: no cover - compiled
    """Add to `on[n, c]` the number of set bits of row n whose code is c.

    `rows` uint64 `(neurons, words)`, `codes` integer `(tokens,)` with −1 = no category, `on` unsigned
    `(neurons, categories)`, changed in place. Bits beyond `tokens` are ignored.
    """
    words = uint64(min(rows.shape[1], (len(codes) + 63) // 64))
    tokens = uint64(len(codes))
    for n in range(rows.shape[0]):
        row, counts = rows[n], on[n]
        for w in range(words):
            word = row[w]
            base = uint64(w) << uint64(6)
            while word:
                token = base + _trailing_zeros(word)
                word &= word - uint64(1)
                if token < tokens:
                    code = codes[token]
                    if code >= 0:
                        counts[uint32(code)] += 1


@njit(nogil=True, cache=True)
def runs(rows, codes, table, starts, category, on):  # pragma: no cover - compiled
    """Set bits of each row by category, for several nested codings at once, as sparse lists.

    `rows` uint64 `(neurons, words)`; `codes` int32 `(codings, tokens)`: within a coding equal codes should be
    neighbours (more runs are slower, never wrong), −1 = no category. `table` uint32 `(codings, categories)`,
    all 0, given back all 0. Written: `starts` int64 `(codings, neurons + 1)`, and `category` int32, `on` uint32
    `(codings, set bits + 1)`: the list of neuron n in
    coding k is `[starts[k, n], starts[k, n + 1])`, categories in the order of their first set bit.
    """
    for k in range(codes.shape[0]):
        starts[k, 0] = 0
        for n in range(rows.shape[0]):
            starts[k, n + 1] = _runs_of_row(rows[n], codes[k], table[k], starts[k, n], category[k], on[k])


@njit(nogil=True, cache=True)
def _runs_of_row(row, codes, table, start, category, on):  # pragma: no cover - compiled
    """Write one row's list from `start` on; returns its end. A run is kept in registers until its code changes."""
    tokens = uint64(len(codes))
    filled = uint64(start)
    current, length = uint32(0), uint32(0)
    for w in range(uint64(min(len(row), (len(codes) + 63) // 64))):
        word = row[w]
        base = uint64(w) << uint64(6)
        while word:
            token = base + _trailing_zeros(word)
            word &= word - uint64(1)
            if token >= tokens:
                break
            code = codes[token]
            if code < 0:
                continue
            if uint32(code) != current:
                if length:
                    before = table[current]
                    category[filled] = current
                    filled += uint64(before == 0)
                    table[current] = before + length
                current, length = uint32(code), uint32(0)
            length += uint32(1)
    if length:
        before = table[current]
        category[filled] = current
        filled += uint64(before == 0)
        table[current] = before + length
    for i in range(uint64(start), filled):
        code = uint32(category[i])
        on[i] = table[code]
        table[code] = 0
    return filled


@njit(nogil=True, cache=True)
def first_set(rows, index):  # pragma: no cover - compiled
    """Least `index[t]` over the set bits t of each row: int64 `(neurons,)`, −1 for a row without any."""
    words = uint64(min(rows.shape[1], (len(index) + 63) // 64))
    tokens = uint64(len(index))
    out = np.full(rows.shape[0], -1, dtype=np.int64)
    for n in range(rows.shape[0]):
        least = np.int64(-1)
        for w in range(words):
            word = rows[n, w]
            base = uint64(w) << uint64(6)
            while word:
                token = base + _trailing_zeros(word)
                word &= word - uint64(1)
                if token < tokens and (least < 0 or np.int64(index[token]) < least):
                    least = np.int64(index[token])
        out[n] = least
    return out


@njit(nogil=True, cache=True)
def sample(rows, index, priority, out):  # pragma: no cover - compiled
    """For each row the `index` of its `out.shape[1]` set bits with the least `priority`, in that order.

    `rows` uint64 `(neurons, words)`, `index` integer and `priority` uint64, both `(tokens,)`; `out` int64
    `(neurons, samples)` is overwritten, −1 where a row has fewer set bits. With a hash of the token's index as
    priority this is a uniform sample without replacement that no order, split or merge of the tokens changes.
    """
    words = uint64(min(rows.shape[1], (len(index) + 63) // 64))
    tokens, samples = uint64(len(index)), out.shape[1]
    best = np.empty(samples, dtype=np.uint64)
    for n in range(rows.shape[0]):
        held = 0
        for s in range(samples):
            out[n, s] = -1
        for w in range(words):
            word = rows[n, w]
            base = uint64(w) << uint64(6)
            while word:
                token = base + _trailing_zeros(word)
                word &= word - uint64(1)
                if token >= tokens:
                    continue
                key = priority[token]
                if held == samples and key >= best[samples - 1]:
                    continue
                place = held if held < samples else samples - 1
                while place > 0 and best[place - 1] > key:
                    best[place] = best[place - 1]
                    out[n, place] = out[n, place - 1]
                    place -= 1
                best[place] = key
                out[n, place] = np.int64(index[token])
                if held < samples:
                    held += 1


@njit(nogil=True, cache=True)
def covering(starts, on, share):  # pragma: no cover - compiled
    """Covering number and its threshold, for each list of counts.

    `starts` int64 `(neurons + 1,)`, `on` uint32 `(entries,)`, `share` in percent. Returns int64 `(neurons,)`
    twice: the least number of entries whose counts sum to at least `share`% of the list's total (0 for an empty
    list), and the count of the last entry taken (0 for an empty list). Integer arithmetic throughout.
    """
    neurons = len(starts) - 1
    number = np.zeros(neurons, dtype=np.int64)
    least = np.zeros(neurons, dtype=np.int64)
    for n in range(neurons):
        counts = np.sort(on[starts[n] : starts[n + 1]])
        total = np.int64(0)
        for count in counts:
            total += np.int64(count)
        taken = np.int64(0)
        for i in range(len(counts) - 1, -1, -1):
            taken += np.int64(counts[i])
            number[n] += 1
            least[n] = np.int64(counts[i])
            if 100 * taken >= share * total:
                break
    return number, least
