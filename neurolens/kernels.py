"""Compiled loops over set bits. Nothing but arrays in, arrays out; every loop releases the interpreter lock.

Rows are uint64 `(neurons, words)`, neuron-major, in the bit order of `bits.py`; codes say for each bit of a row
which category its token belongs to, −1 for none. Two ways of counting, one signature `(rows, codes)`:

`scatter`  any codes, few categories: a dense table `on[neuron, category]`.
`runs`     nested codes that only grow along a stretch of the row (context order): a sparse list of
           (category, on) for each neuron, no table of neurons × categories.

Unsigned indices and `cttz` matter: signed indices cost four times as much (a sign test and a wrap-around each).
Measured on one core, ns per set bit at densities of 1%, 5%, 50%: `scatter` 4.2, 2.0, 1.2; `runs` 6, 3.2, 1.7–2.3
(`benchmarks/tabulate.py` prints the figures of the machine it runs on).
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import njit, types, uint32, uint64
from numba.extending import intrinsic

# numba compiles to machine code; its type system is not Python's
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false


STRETCH = 256  # words of a row whose set bits are listed at a time: few enough that the list stays in the cache
SMALL = 256  # counts below are sorted by counting
AT_ONCE = 8  # bits of a word listed without asking whether there are so many


@intrinsic
def _trailing_zeros(typingctx, word):  # pragma: no cover - compiled
    """Zeros below the lowest set bit of a uint64, 64 if it is 0: one machine instruction."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@intrinsic
def _bit_count(typingctx, word):  # pragma: no cover - compiled
    """Set bits of a uint64: one machine instruction."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@njit(nogil=True, cache=True)
def _set_bits(row, first, tokens, full, found):  # pragma: no cover - compiled
    """List in `found` the set bits of a row from word `first` on, STRETCH words; returns how many are below `tokens`.

    `full` uint32 `(STRETCH,)` and `found` uint32 `(64 * STRETCH + AT_ONCE,)` are overwritten. A branch guessed wrong
    costs the processor as much as ten bits, so few are left: words that have any bit are listed first, and bits are
    listed AT_ONCE at a time, there or not; what was not there is overwritten by the next word, or not counted.
    """
    some = uint64(0)
    for w in range(uint64(first), uint64(min(first + STRETCH, len(row)))):
        full[some] = w
        some += uint64(row[w] != 0)
    count = uint64(0)
    for i in range(some):
        word, base = row[uint64(full[i])], uint64(full[i]) << uint64(6)
        end = count + _bit_count(word)
        while count < end:
            for j in range(uint64(AT_ONCE)):
                found[count + j] = base + _trailing_zeros(word)
                word &= word - uint64(1)
            count += uint64(AT_ONCE)
        count = end
    while count and found[count - uint64(1)] >= tokens:
        count -= uint64(1)
    return count


@njit(nogil=True, cache=True)
def count_bits(rows, chosen):  # pragma: no cover - compiled
    """Set bits of chosen rows: uint64 `(any, words)` and integer `(neurons,)` → int64 `(neurons,)`."""
    out = np.zeros(len(chosen), np.int64)
    for n in range(len(chosen)):
        row, count = rows[chosen[n]], uint64(0)
        for w in range(uint64(len(row))):
            count += _bit_count(row[w])
        out[n] = np.int64(count)
    return out


@njit(nogil=True, cache=True)
def scatter(rows, codes, on):  # pragma: no cover - compiled
    """Add to `on[n, c]` the number of set bits of row n whose code is c.

    `rows` uint64 `(neurons, words)`, `codes` integer `(tokens,)` with −1 = no category, `on` unsigned
    `(neurons, categories)`, changed in place. Bits beyond `tokens` are ignored.
    """
    full, found = np.empty(STRETCH, np.uint32), np.empty(64 * STRETCH + AT_ONCE, np.uint32)
    for n in range(rows.shape[0]):
        counts = on[n]
        for first in range(0, rows.shape[1], STRETCH):
            for i in range(_set_bits(rows[n], first, len(codes), full, found)):
                code = codes[found[i]]
                if code >= 0:
                    counts[uint32(code)] += 1


@njit(nogil=True, cache=True)
def runs(rows, chosen, codes, parent, base, complete, table, starts, category, on):  # pragma: no cover - compiled
    """Set bits of chosen rows by category, for a coding and coarser ones that it is nested in, as sparse lists.

    `rows` uint64 `(any, words)`, of which `chosen` integer `(neurons,)` are counted; `codes` int32 `(tokens,)` of the
    finest coding, −1 = no category: equal ones should be neighbours (others are slower, never wrong). Categories of
    all codings are numbered together: those of coding k, the finest first, from `base[k]` int64 on, of which the first
    `complete[k]` int64 are listed, the others only lead on to `parent` int32 `(categories,)`, the category of the next
    coding that holds all of one's tokens. `table` uint32 `(categories,)`, all 0, is given back all 0. Written:
    `starts` int64 `(codings, neurons + 1)`, and `category` int32, `on` uint32 `(codings, set bits + 1)`: the list of
    neuron n in coding k is `[starts[k, n], starts[k, n + 1])`, numbers counted from `base[k]`, in the order of their
    first set bit.

    Only the finest coding looks at bits; a coarser one adds up what is on the list before it.
    """
    full, found = np.empty(STRETCH, np.uint32), np.empty(64 * STRETCH + AT_ONCE, np.uint32)
    code, stop = np.empty(64 * STRETCH + 1, np.int32), np.empty(64 * STRETCH + 1, np.uint32)
    starts[:, 0] = 0
    for n in range(len(chosen)):
        row, end = rows[chosen[n]], uint64(starts[0, n])
        for first in range(0, len(row), STRETCH):
            count = _set_bits(row, first, len(codes), full, found)
            end = _tally(found[:count], codes, table, end, category[0], code, stop)
        for k in range(len(complete)):
            last, coarser = k + 1 == len(complete), min(k + 1, len(complete) - 1)
            kept = uint64(starts[k, n])
            first, next_end = kept, uint64(starts[coarser, n])
            for i in range(first, end):
                which = uint32(category[k, i])
                count = table[which]
                table[which] = 0
                if not last:
                    up = uint32(parent[which])
                    category[coarser, next_end] = up
                    next_end += uint64(table[up] == 0)
                    table[up] += count
                category[k, kept] = which - uint32(base[k])
                on[k, kept] = count
                kept += uint64(which - uint32(base[k]) < uint32(complete[k]))
            starts[k, n + 1] = kept
            end = next_end


@njit(nogil=True, cache=True)
def _tally(found, codes, table, end, category, code, stop):  # pragma: no cover - compiled
    """Count tokens by code; each code's first one appends it to the list that ends at `end`. Returns the new end.

    First runs of equal codes, without a branch: `code` and `stop` of run r are overwritten until the next one
    begins. Then a look-up in `table` a run, not a bit: a count in memory cannot grow faster than once in 5 cycles.
    """
    last, run = np.int32(-1), uint64(0)
    stop[0] = 0
    for i in range(uint64(len(found))):
        now = codes[found[i]]
        run += uint64(now != last)
        last = now
        code[run], stop[run] = now, i + uint64(1)
    filled = uint64(end)
    for r in range(uint64(1), run + uint64(1)):
        if code[r] >= 0:
            before = table[uint32(code[r])]
            category[filled] = code[r]
            filled += uint64(before == 0)
            table[uint32(code[r])] = before + stop[r] - stop[r - uint64(1)]
    return filled


@njit(nogil=True, cache=True)
def first_along(rows, walk, rank, out):  # pragma: no cover - compiled
    """The first set bits of each row along a walk over the tokens.

    `rows` uint64 `(neurons, words)`; `walk` uint32 `(tokens,)`: places of a row in the order of the walk; `rank` uint32
    `(tokens,)`: at which step each place is met. `out` int64 `(neurons, wanted)` is overwritten with places, in that
    order, −1 where a row has fewer set bits. Walked as long as that may be the shorter way, else all bits are listed.
    """
    full, found = np.empty(STRETCH, np.uint32), np.empty(64 * STRETCH + AT_ONCE, np.uint32)
    wanted = out.shape[1]
    best = np.empty(wanted, dtype=np.uint32)
    for n in range(rows.shape[0]):
        row, bits, held = rows[n], uint64(0), 0
        for w in range(uint64(len(row))):
            bits += _bit_count(row[w])
        out[n] = -1
        for step in range(min(bits, uint64(len(walk)))):
            place = uint64(walk[step])
            if row[place >> uint64(6)] >> (place & uint64(63)) & uint64(1):
                out[n, held] = place
                held += 1
                if held == wanted:
                    break
        if held == min(wanted, np.int64(bits)):
            continue
        held = 0
        for first in range(0, len(row), STRETCH):
            for i in range(_set_bits(row, first, len(walk), full, found)):
                token = found[i]
                key = rank[token]
                if held == wanted and key >= best[wanted - 1]:
                    continue
                place = held if held < wanted else wanted - 1
                while place > 0 and best[place - 1] > key:
                    best[place] = best[place - 1]
                    out[n, place] = out[n, place - 1]
                    place -= 1
                best[place] = key
                out[n, place] = token
                if held < wanted:
                    held += 1


@njit(nogil=True, cache=True)
def greedy_cover(how_many, large, total, share, taken, number):  # pragma: no cover - compiled
    """Least number of counts that sum to at least `share`% of `total`, all of them together, and the last one taken.

    `how_many` int64 `(SMALL,)`: counts below SMALL, by size; `large` int64 `(any,)`: the others, which are put in
    another order. Larger ones than all of these may have been left out: `number` of them, together `taken`, which do
    not reach the share. 0 and 0 for a total of 0. Integer arithmetic throughout.
    """
    goal, least = share * total, np.int64(0)
    first, end = 0, len(large)  # a sort that looks only at the side where the share is reached
    while first < end and 100 * taken < goal:
        pivot, more, equal, i, above = large[(first + end) // 2], first, first, first, np.int64(0)
        while i < end:  # [first, more) are larger, [more, equal) as large, [equal, i) smaller
            count = large[i]
            if count >= pivot:
                large[i], large[equal] = large[equal], count
                if count > pivot:
                    large[equal], large[more] = large[more], count
                    above += count
                    more += 1
                equal += 1
            i += 1
        if 100 * (taken + above) >= goal:
            end = more
            continue
        needed = min(equal - more, -(-(goal - 100 * (taken + above)) // (100 * pivot)))
        taken += above + needed * pivot
        number += more - first + needed
        least, first = pivot, equal
    for count in range(SMALL - 1, 0, -1):
        if 100 * taken >= goal:
            break
        if how_many[count]:
            needed = min(how_many[count], -(-(goal - 100 * taken) // (100 * count)))
            taken += needed * count
            number += needed
            least = count
    return number, least


@njit(nogil=True, cache=True)
def covering(starts, on, share):  # pragma: no cover - compiled
    """Covering number and its threshold, for each list of counts.

    `starts` int64 `(neurons + 1,)`, `on` uint32 `(entries,)`, `share` in percent. Returns int64 `(neurons,)` three
    times: the least number of entries whose counts sum to at least `share`% of the list's total (0 for an empty
    list), the count of the last entry taken (0 for an empty list), and the total. Small counts, nearly all, are not
    sorted but counted.
    """
    neurons = len(starts) - 1
    number = np.zeros(neurons, dtype=np.int64)
    least = np.zeros(neurons, dtype=np.int64)
    totals = np.zeros(neurons, dtype=np.int64)
    tables = np.zeros((4, SMALL), dtype=np.int64)  # taken in turns: nearly all counts are 1, and wait for each other
    how_many = tables[0]
    for n in range(neurons):
        tables[:] = 0
        total, large = np.int64(0), 0
        for i in range(uint64(starts[n]), uint64(starts[n + 1])):
            count = np.int64(on[i])
            total += count
            if count < SMALL:
                tables[i & uint64(3), uint64(count)] += 1
            else:
                large += 1
        counts = np.empty(large, dtype=np.int64)
        for i in range(uint64(starts[n]), uint64(starts[n + 1])):
            if large and on[i] >= SMALL:
                large -= 1
                counts[large] = on[i]
        for table in range(1, 4):
            how_many += tables[table]
        totals[n] = total
        number[n], least[n] = greedy_cover(how_many, counts, total, share, np.int64(0), np.int64(0))
    return number, least, totals


@njit(nogil=True, cache=True)
def choose(starts, category, on, least, within, top):  # pragma: no cover - compiled
    """Which entries of each list to keep: its covering set, if it is `within` the rule, and the `top` largest.

    `starts`, `category`, `on`: lists as of `runs`; `least` int64 `(neurons,)` of `covering`; `within` bool
    `(neurons,)`. Returns indices of entries int64 `(kept,)`, neuron by neuron, each once. Among equal counts the
    smaller category is the larger entry.
    """
    neurons = len(starts) - 1
    room = top * neurons
    for n in range(neurons):
        if within[n]:
            for i in range(starts[n], starts[n + 1]):
                room += on[i] >= least[n]
    kept, best, filled = np.empty(room, np.int64), np.empty(top, np.int64), 0
    for n in range(neurons):
        held, floor = 0, np.uint32(0)
        for i in range(uint64(starts[n]), uint64(starts[n + 1])):
            if within[n] and on[i] >= least[n]:
                kept[filled] = i
                filled += 1
            if on[i] < floor or (held == top and on[i] == floor and category[i] > category[best[top - 1]]):
                continue
            place = held if held < top else top - 1
            while place > 0 and (
                on[best[place - 1]] < on[i]
                or (on[best[place - 1]] == on[i] and category[best[place - 1]] > category[i])
            ):
                best[place] = best[place - 1]
                place -= 1
            best[place] = i
            held = min(held + 1, top)
            if held == top:
                floor = on[best[top - 1]]
        for k in range(held):
            if not within[n] or on[best[k]] < least[n]:
                kept[filled] = best[k]
                filled += 1
    return kept[:filled]


# Products of value vectors with a vocabulary: not bits, but the same kind of loop. Measured beside the product that
# made a row of 50,265 values (0.6 ms of CPU time at D = 768): `extremes` 0.035 ms a row, `count_smaller` 0.004 ms a
# pair, which is near what reading the row from the cache takes (benchmarks/project.py).

STRIDE = 64  # values compared with both thresholds at once, without a branch


@njit(nogil=True, cache=True)
def null_information(active, tokens, size):  # pragma: no cover - compiled
    """Moments of KL(k / size ‖ K / tokens), nats, for the k activations of a category by chance alone.

    `active` int64 `(any,)`: K, the activations among `tokens`; k of the `size` tokens of a category is hypergeometric.
    Returns float64 `(4, any)`: the mean; variance and third central moment of what is left of it beside its regression
    on k; the slope of that. 0 where K is 0 or all. Probabilities come from the one at the mode by ratios of neighbours,
    until they no longer count.
    """
    out = np.zeros((4, len(active)))
    chance, divergence = np.empty(size + 1), np.empty(size + 1)
    for i in range(len(active)):
        marked = active[i]
        if marked <= 0 or marked >= tokens:
            continue
        frequency = marked / tokens
        least, most = max(0, size - (tokens - marked)), min(size, marked)
        mode = min(max(int((size + 1) * ((marked + 1) / (tokens + 2))), least), most)  # their product may be too large
        low = high = mode
        chance[mode] = 1.0
        while high < most and chance[high] > 1e-18:
            k = float(high)
            chance[high + 1] = chance[high] * (marked - k) * (size - k) / ((k + 1) * (tokens - marked - size + k + 1))
            high += 1
        while low > least and chance[low] > 1e-18:
            k = float(low)
            chance[low - 1] = chance[low] * k * (tokens - marked - size + k) / ((marked - k + 1) * (size - k + 1))
            low -= 1
        whole = mean = spread = slope = 0.0
        for k in range(low, high + 1):
            rate, told = k / size, 0.0
            if k > 0:
                told += rate * math.log(rate / frequency)
            if k < size:
                told += (1.0 - rate) * math.log((1.0 - rate) / (1.0 - frequency))
            divergence[k] = told
            apart = k - size * frequency
            whole += chance[k]
            mean += chance[k] * told
            spread += chance[k] * apart * apart
            slope += chance[k] * apart * told
        mean /= whole
        slope = slope / spread if spread > 0.0 else 0.0
        variance = third = 0.0
        for k in range(low, high + 1):
            rest = divergence[k] - mean - slope * (k - size * frequency)
            variance += chance[k] * rest * rest
            third += chance[k] * rest * rest * rest
        out[0, i], out[1, i], out[2, i], out[3, i] = mean, variance / whole, third / whole, slope
    return out


@njit(nogil=True, cache=True)
def extremes(values, high, high_at, low, low_at):  # pragma: no cover - compiled
    """The greatest and the least values of each row, with their columns; of equal ones the first columns.

    `values` float32 `(rows, columns)`, finite. Overwritten: `high` float32 falling and `low` rising, `high_at` and
    `low_at` int32, all `(rows, k)` with 1 ≤ k ≤ columns.
    """
    last, columns = uint64(high.shape[1] - 1), uint64(values.shape[1])
    for r in range(values.shape[0]):
        row = values[r]
        high[r], low[r] = -np.inf, np.inf
        most, least = high[r, last], low[r, last]
        for first in range(uint64(0), columns, uint64(STRIDE)):
            stop = min(first + uint64(STRIDE), columns)
            some = uint32(0)
            for c in range(first, stop):
                some |= uint32(row[c] > most) | uint32(row[c] < least)
            if not some:
                continue
            for c in range(first, stop):
                value = row[c]
                if value > most:
                    place = last
                    while place and high[r, place - uint64(1)] < value:
                        high[r, place], high_at[r, place] = high[r, place - uint64(1)], high_at[r, place - uint64(1)]
                        place -= uint64(1)
                    high[r, place], high_at[r, place] = value, c
                    most = high[r, last]
                if value < least:
                    place = last
                    while place and low[r, place - uint64(1)] > value:
                        low[r, place], low_at[r, place] = low[r, place - uint64(1)], low_at[r, place - uint64(1)]
                        place -= uint64(1)
                    low[r, place], low_at[r, place] = value, c
                    least = low[r, last]


@njit(nogil=True, cache=True)
def count_smaller(values, row, column, smaller):  # pragma: no cover - compiled
    """How many values of its row are smaller than the one in the row and column of each pair.

    `values` float32 `(rows, columns)`; `row`, `column` integer and `smaller` int32, all `(pairs,)`; `smaller` is
    overwritten.
    """
    for i in range(len(row)):
        of = values[row[i]]
        value, count = of[column[i]], uint32(0)
        for c in range(uint64(values.shape[1])):
            count += uint32(of[c] < value)
        smaller[i] = count
