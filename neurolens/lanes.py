"""Dense neurons: n-grams counted by interval instead of by set bit, for LANES rows side by side.

In context order every n-gram is one interval of a block, so that a row's count of it is the difference of two ranks
(set bits below a place). What that costs depends on the number of n-grams, not on how often a neuron is active; it
pays from some per cent of density on. LANES rows share the places: one vector instruction each for words, masks, set
bits and sums, where rows alone would need as many scalar ones. Most n-grams are rare and matter as a number only:
of those that occur once the active ones are the set bits of row & mask; of those that occur FEW times at most it is
counted how often each sum comes.

Limit: a run of codes costs two loads and a read and write of its sums, 32 bytes a vector: 0.25–0.35 ns a run and
neuron; sums of n-grams that are not rare are read once more, at 1 ns each and neuron (`benchmarks/ngrams.py`).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types, uint32, uint64
from numba.core import cgutils
from numba.extending import intrinsic

from neurolens.kernels import SMALL, _bit_count, greedy_cover

# numba compiles to machine code; its type system is not Python's
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportAttributeAccessIssue=false

LANES = 8  # rows side by side: words of 64 bits fill the widest vectors there are
FEW = 3  # tokens of a rare n-gram
# Where counting by interval is the faster way: ns a run of codes, ns an n-gram that is not rare, against ns a set bit
RUN_COST, GRAM_COST, BIT_COST = 0.35, 1.1, 8.0


LONG, SHORT = ir.VectorType(ir.IntType(64), LANES), ir.VectorType(ir.IntType(32), LANES)


def _load(builder, address, kind):  # pragma: no cover - compiled
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 4
    return value


def _store(builder, value, address):  # pragma: no cover - compiled
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = 4


def _count_masked(builder, words, mask):  # pragma: no cover - compiled
    """Set bits of LANES words & mask, as 32-bit numbers."""
    zero, empty = ir.Constant(ir.IntType(32), 0), ir.Constant(LONG, ir.Undefined)
    everywhere = ir.Constant(SHORT, [0] * LANES)
    masks = builder.shuffle_vector(builder.insert_element(empty, mask, zero), empty, everywhere)
    kind = ir.FunctionType(LONG, [LONG])
    count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i64")
    return builder.trunc(builder.call(count, [builder.and_(_load(builder, words, LONG), masks)]), SHORT)


@intrinsic
def _add_interval(typingctx, words, before, mask, last, sums):  # pragma: no cover - compiled
    """For LANES rows: rank = before + set bits of words & mask; sums += rank − last; last = rank. All by address."""

    def codegen(context, builder, signature, args):
        words, before, mask, last, sums = args
        rank = builder.add(_load(builder, before, SHORT), _count_masked(builder, words, mask))
        more = builder.sub(rank, _load(builder, last, SHORT))
        _store(builder, rank, last)
        _store(builder, builder.add(_load(builder, sums, SHORT), more), sums)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.uint64, types.uintp, types.uintp), codegen


@intrinsic
def _add_masked(typingctx, words, mask, sums):  # pragma: no cover - compiled
    """For LANES rows: sums += set bits of words & mask. By address."""

    def codegen(context, builder, signature, args):
        words, mask, sums = args
        _store(builder, builder.add(_load(builder, sums, SHORT), _count_masked(builder, words, mask)), sums)
        return context.get_dummy_value()

    return types.void(types.uintp, types.uint64, types.uintp), codegen


@intrinsic
def _tally(typingctx, sums, floor, tallies):  # pragma: no cover - compiled
    """For LANES sums: tallies[0] += sum, [1] += sum > 0, [1 + count] += sum == count for each count from 1 to FEW.

    By address. Returns whether any of the sums exceeds its floor.
    """

    def codegen(context, builder, signature, args):
        sums, floor, tallies = args
        value = _load(builder, sums, SHORT)

        def add(row, more):
            address = builder.add(tallies, ir.Constant(ir.IntType(64), row * LANES * 4))
            _store(builder, builder.add(_load(builder, address, SHORT), more), address)

        def equal(count):
            return builder.icmp_unsigned("==", value, ir.Constant(SHORT, [count] * LANES))

        add(0, value)
        add(1, builder.zext(builder.not_(equal(0)), SHORT))
        for count in range(1, FEW + 1):
            add(1 + count, builder.zext(equal(count), SHORT))
        above = builder.icmp_unsigned(">", value, _load(builder, floor, SHORT))
        return builder.icmp_unsigned("!=", builder.bitcast(above, ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(types.uintp, types.uintp, types.uintp), codegen


@njit(nogil=True, cache=True)
def _widen(rows, chosen, words, before):  # pragma: no cover - compiled
    """Rows side by side, and the set bits before each word.

    `rows` uint64 `(any, width)`, of which `chosen` integer `(≤ LANES,)` are taken, beside silent ones; written:
    `words` uint64 `(width + 1, LANES)`, `before` uint32 `(width + 1, LANES)`.
    """
    before[0] = 0
    words[:, len(chosen) :] = 0
    before[:, len(chosen) :] = 0
    words[rows.shape[1]] = 0
    # all lanes of a word at once: a pass a lane would touch every line LANES times
    for w in range(uint64(rows.shape[1])):
        for lane in range(uint64(len(chosen))):
            word = rows[uint64(chosen[lane]), w]
            words[w, lane] = word
            before[w + uint64(1), lane] = before[w, lane] + uint32(_bit_count(word))


@njit(nogil=True, cache=True)
def _add_intervals(words, before, stop, code, sums):  # pragma: no cover - compiled
    """Set bits of each interval, added up by code.

    `words`, `before` of `_widen`; `stop` uint32 `(runs,)` where each run of equal codes ends (the first begins at 0),
    `code` int32 `(runs,)` in [0, codes); `sums` uint32 `(codes, LANES)` is overwritten.
    """
    sums[:] = 0
    last = np.zeros(LANES, np.uint32)
    # addresses, as the vector instructions want them: a row of 8 words is 64 bytes, one of 8 counts 32
    words_at, before_at = uint64(words.ctypes.data), uint64(before.ctypes.data)
    last_at, sums_at = uint64(last.ctypes.data), uint64(sums.ctypes.data)
    for i in range(uint64(len(stop))):
        place = uint64(stop[i])
        word = place >> uint64(6)
        below = (uint64(1) << (place & uint64(63))) - uint64(1)
        row = sums_at + (uint64(code[i]) << uint64(5))
        _add_interval(words_at + (word << uint64(6)), before_at + (word << uint64(5)), below, last_at, row)
    return last[0]  # keeps it alive until here


@njit(nogil=True, cache=True)
def _reduce(words, once, sums, often, few, common, share, limit, top):  # pragma: no cover - compiled
    """Covering numbers and the largest counts of LANES rows, as `kernels.covering` and `kernels.choose` find them.

    `words` of `_widen`; `once` uint64 `(width,)`, a bit where a token's n-gram occurs once; `sums` of `_add_intervals`,
    whose first rows belong to the categories `often` int32 `(any,)`, ascending, that occur more than
    FEW times, and the next `few` to those that occur at least twice; `common` int32 `(any,)` lists the rows that
    occur SMALL times or more. `share` percent, `limit` the greatest covering number of which the whole covering set
    is kept, `top` how many counts are kept in any case.

    Returns int64 `(LANES,)`: `activations`, `number`, `least`; bool `(LANES,)`: `again`, rows of which n-grams that
    occur FEW times or once would have to be kept, which are to be counted the other way; and of the kept entries,
    lane by lane, int64 `(3, kept)`: lane, category and count.
    """
    best, held = np.zeros((LANES, top), np.int64), np.zeros(LANES, np.int64)  # rows of sums, falling
    floor = np.zeros(LANES, np.uint32)  # what a count must exceed to be among the best
    frequent, rare = np.zeros((FEW + 2, LANES), np.uint32), np.zeros((FEW + 2, LANES), np.uint32)
    sums_at, floor_at = uint64(sums.ctypes.data), uint64(floor.ctypes.data)
    frequent_at, rare_at = uint64(frequent.ctypes.data), uint64(rare.ctypes.data)
    for j in range(uint64(len(often))):
        if _tally(sums_at + (j << uint64(5)), floor_at, frequent_at):
            for lane in range(uint64(LANES)):
                if sums[j, lane] > floor[lane]:
                    place = held[lane] if held[lane] < top else top - 1
                    while place > 0 and sums[best[lane, place - 1], lane] < sums[j, lane]:
                        best[lane, place] = best[lane, place - 1]
                        place -= 1
                    best[lane, place] = j
                    held[lane] = min(held[lane] + 1, top)
                    if held[lane] == top:
                        floor[lane] = sums[best[lane, top - 1], lane]
    for j in range(uint64(len(often)), uint64(len(often) + few)):
        _tally(sums_at + (j << uint64(5)), floor_at, rare_at)
    single = np.zeros(LANES, np.uint32)
    words_at, single_at = uint64(words.ctypes.data), uint64(single.ctypes.data)
    for w in range(uint64(len(once))):
        if once[w]:
            _add_masked(words_at + (w << uint64(6)), once[w], single_at)
    activations, number, least = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    again, size = np.zeros(LANES, np.bool_), 0
    how_many, large = np.empty(SMALL, np.int64), np.empty(len(common), np.int64)
    for lane in range(LANES):
        how_many[:] = 0
        how_many[1] = single[lane]
        for count in range(1, FEW + 1):
            how_many[count] += np.int64(frequent[1 + count, lane]) + np.int64(rare[1 + count, lane])
        activations[lane] = np.int64(frequent[0, lane]) + np.int64(rare[0, lane]) + np.int64(single[lane])
        taken, counted = activations[lane], np.int64(frequent[1, lane] + rare[1, lane] + single[lane])
        for count in range(1, FEW + 1):
            taken -= count * how_many[count]
            counted -= how_many[count]
        filled = 0
        if 100 * taken >= share * activations[lane]:  # else the cover takes all counts above FEW, whatever they are
            taken = counted = np.int64(0)
            for j in range(len(often)):
                if FEW < sums[j, lane] < SMALL:
                    how_many[sums[j, lane]] += 1
            for j in common:
                if sums[j, lane] >= SMALL:
                    large[filled] = sums[j, lane]
                    filled += 1
        number[lane], least[lane] = greedy_cover(how_many, large[:filled], activations[lane], share, taken, counted)
        unlisted = rare[1, lane] + single[lane] > 0
        again[lane] = unlisted and (floor[lane] <= FEW or (number[lane] <= limit and least[lane] <= FEW))
        size += held[lane]
        if 0 < number[lane] <= limit and not again[lane]:
            for j in range(len(often)):
                size += sums[j, lane] >= least[lane]
    kept, filled = np.empty((3, size), np.int64), 0
    for lane in range(LANES):
        whole = 0 < number[lane] <= limit and not again[lane]
        for j in range(len(often) if whole else 0):
            if sums[j, lane] >= least[lane]:
                kept[0, filled], kept[1, filled], kept[2, filled] = lane, often[j], sums[j, lane]
                filled += 1
        for k in range(0 if again[lane] else held[lane]):
            j = best[lane, k]
            if not whole or sums[j, lane] < least[lane]:
                kept[0, filled], kept[1, filled], kept[2, filled] = lane, often[j], sums[j, lane]
                filled += 1
    return activations, number, least, again, kept[:, :filled]


@njit(nogil=True, cache=True)
def count_lanes(rows, chosen, stop, code, once, often, few, common, share, limits, top):  # pragma: no cover - compiled
    """Covering numbers and the largest counts of chosen rows, for several variables, by interval.

    `rows` uint64 `(any, width)`, of which `chosen` int64 `(neurons,)` are counted. Tuples with an entry a variable:
    `stop`, `code` as of `_add_intervals`; `once`, `often`, `few`, `common`, `limits` as of `_reduce`.

    Returns int64 `(3, variables, neurons)`: activations, covering number and the count of the last category taken;
    bool `(neurons,)`: rows to be counted the other way, of which nothing else holds; and int64 `(4, kept)`: variable,
    neuron, category and count of the entries kept.
    """
    words = np.empty((rows.shape[1] + 1, LANES), np.uint64)
    before = np.empty((rows.shape[1] + 1, LANES), np.uint32)
    most = 0
    for k in range(len(stop)):
        most = max(most, len(often[k]) + few[k] + 1)
    sums = np.empty((most, LANES), np.uint32)
    found = np.zeros((3, len(stop), len(chosen)), np.int64)
    again = np.zeros(len(chosen), np.bool_)
    kept, filled = np.empty((4, 1024), np.int64), 0
    for first in range(0, len(chosen), LANES):
        size = min(LANES, len(chosen) - first)
        _widen(rows, chosen[first : first + size], words, before)
        for k in range(len(stop)):
            _add_intervals(words, before, stop[k], code[k], sums[: len(often[k]) + few[k] + 1])
            activations, number, least, unsure, entries = _reduce(
                words, once[k], sums, often[k], few[k], common[k], share, limits[k], top
            )
            for i in range(size):  # one by one: assigning slices takes longer to compile than all else here
                found[0, k, first + i] = activations[i]
                found[1, k, first + i] = number[i]
                found[2, k, first + i] = least[i]
                again[first + i] |= unsure[i]
            if filled + entries.shape[1] > kept.shape[1]:
                longer = np.empty((4, 2 * (filled + entries.shape[1])), np.int64)
                for row in range(4):
                    for i in range(filled):
                        longer[row, i] = kept[row, i]
                kept = longer
            for i in range(entries.shape[1]):
                kept[0, filled], kept[1, filled] = k, first + entries[0, i]
                kept[2, filled], kept[3, filled] = entries[1, i], entries[2, i]
                filled += 1
    return found, again, kept[:, :filled]
