"""tabulate: set bits by category, with the two compiled kernels, numpy and scipy, on one core.

`scatter` counts by position into a dense table, `runs` by token id, in context order, into sparse lists. Bits are
independent, or come in runs of 8 on average. numpy gets the bits unpacked and the codes in its own index type. It is
the faster of two ways with `bincount` (set bits found by mask or by `flatnonzero`); beside that, for tokens, the
fastest of all ways (run lengths and sums over the tokens' intervals as well). scipy multiplies a CSR matrix of the
bits, made beforehand, by one with a 1 for every token's category. Left out: compilation, and room for our results.
All results are compared.

The bound is for independent bits: in runs the branches that numpy takes are foretold, and it is three times as fast.
`--quick`: fewer neurons and tokens; the bounds are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from _common import at_least, finish, interleaved, quick_asked, ratios
from scipy.sparse import csr_matrix

from neurolens import kernels
from neurolens.bits import pack, words

DENSITIES = (0.003, 0.01, 0.05, 0.2, 0.5)
POSITIONS, VOCABULARY = 2048, 50272
RUN = 8  # mean length of a run of set bits
BOUND_AT, BOUND = 0.05, 10.0


def independent(rng: np.random.Generator, shape: tuple[int, int], density: float) -> np.ndarray:
    """Bool `(neurons, tokens)`, every bit drawn by itself."""
    return rng.integers(0, 1 << 16, shape, dtype=np.uint16) < density * (1 << 16)


def in_runs(rng: np.random.Generator, shape: tuple[int, int], density: float) -> np.ndarray:
    """Bool `(neurons, tokens)`, runs of geometric lengths."""
    size = shape[0] * shape[1]
    pairs = int(1.5 * size * density / RUN) + 1000
    off = rng.geometric(min(1.0, density / (1 - density) / RUN), pairs)
    lengths = np.stack([off, rng.geometric(1 / RUN, pairs)], axis=1).reshape(-1)
    return np.repeat(np.tile([False, True], pairs), lengths)[:size].reshape(shape)


def by_position(bits: np.ndarray, codes: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Ways to a dense table of counts `(neurons, POSITIONS)`."""
    rows, wide, neurons = words(pack(bits)), codes.astype(np.intp), len(bits)
    matrix, one_hot = csr_matrix(bits, dtype=np.int32), _one_hot(codes, POSITIONS)

    on = np.zeros((neurons, POSITIONS), np.uint32)

    def ours() -> np.ndarray:
        on.fill(0)
        kernels.scatter(rows, codes, on)
        return on

    return {
        "ours": ours,
        "bincount, mask": lambda: np.stack([np.bincount(wide[row], minlength=POSITIONS) for row in bits]),
        "bincount, flatnonzero": lambda: np.stack(
            [np.bincount(wide[np.flatnonzero(row)], minlength=POSITIONS) for row in bits]
        ),
        "scipy": lambda: (matrix @ one_hot).toarray(),
    }


def by_token(bits: np.ndarray, codes: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Ways to (neuron's first entry, categories, counts), sparse and sorted; `codes` ascend, −1 first."""
    rows, neurons, size = words(pack(bits)), len(bits), int(bits.sum()) + 1
    text = int((codes < 0).sum())
    wide = codes[text:].astype(np.intp)
    places = np.flatnonzero(np.diff(wide, prepend=-1))
    matrix, one_hot = csr_matrix(bits, dtype=np.int32), _one_hot(codes, VOCABULARY)
    table, starts = np.zeros(VOCABULARY, np.uint32), np.zeros((1, neurons + 1), np.int64)
    category, on = np.empty((1, size), np.int32), np.empty((1, size), np.uint32)
    every, parent = np.arange(neurons), np.full(VOCABULARY, -1, np.int32)  # nested in nothing coarser
    base, complete = np.zeros(1, np.int64), np.full(1, VOCABULARY)

    def ours() -> Any:
        kernels.runs(rows, every, codes, parent, base, complete, table, starts, category, on)
        return starts[0], category[0, : starts[0, -1]], on[0, : starts[0, -1]]

    def lists(count: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Any:
        categories, counts = zip(*(count(row[text:]) for row in bits), strict=True)
        return np.cumsum([0, *map(len, counts)]), np.concatenate(categories), np.concatenate(counts)

    def bincount(active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = np.bincount(active)
        category = np.flatnonzero(counts)
        return category, counts[category]

    def run_lengths(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        active = wide[np.flatnonzero(row)]
        first = np.flatnonzero(np.diff(active, prepend=-1))
        return active[first], np.diff(first, append=len(active))

    def intervals(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = np.add.reduceat(row, places, dtype=np.int32)
        some = np.flatnonzero(counts)
        return wide[places[some]], counts[some]

    def scipy() -> Any:
        product = matrix @ one_hot
        product.sort_indices()
        return product.indptr, product.indices, product.data

    return {
        "ours": ours,
        "bincount, mask": lambda: lists(lambda row: bincount(wide[row])),
        "bincount, flatnonzero": lambda: lists(lambda row: bincount(wide[np.flatnonzero(row)])),
        "run lengths": lambda: lists(run_lengths),
        "intervals": lambda: lists(intervals),
        "scipy": scipy,
    }


def _one_hot(codes: np.ndarray, categories: int) -> Any:
    place = np.flatnonzero(codes >= 0)
    ones = np.ones(len(place), np.int32)
    return csr_matrix((ones, (place, codes[place])), shape=(len(codes), categories))


def agree(methods: dict[str, Callable[[], Any]]) -> None:
    """Stop unless all methods yield what the first one does."""
    want, *others = (method() for method in methods.values())
    parts = want if isinstance(want, tuple) else (want,)
    for name, other in zip(list(methods)[1:], others, strict=True):
        for one, two in zip(parts, other if isinstance(other, tuple) else (other,), strict=True):
            if not np.array_equal(one, two):
                raise SystemExit(f"{name} and {next(iter(methods))} disagree")


def main() -> int:
    """Measure; 0 if all bounds hold."""
    quick = quick_asked(__doc__, "16 neurons of 131,072 tokens instead of 64 of 262,144, under a minute")
    shape, rounds = ((16, 1 << 17), 3) if quick else ((64, 1 << 18), 7)
    rng = np.random.default_rng(0)
    position = (rng.permutation(shape[1]) % POSITIONS).astype(np.int32)
    weight = 1 / np.arange(1, VOCABULARY + 1)
    token = np.sort(rng.choice(VOCABULARY, shape[1], p=weight / weight.sum())).astype(np.int32)
    token[: shape[1] // 500] = -1  # `</s>` comes first in context order
    kinds = {"independent": independent, "runs_of_8": in_runs}
    kernels_of = {"scatter": (by_position, position), "runs": (by_token, token)}
    figures: dict[str, Any] = {"neurons": shape[0], "tokens": shape[1]}
    bounds = {}
    print(f"{shape[0]} neurons × {shape[1]:,} tokens; ns of CPU time per set bit (10⁹ neuron·tokens a second)")
    for kernel, (ways, codes) in kernels_of.items():
        for kind, make in kinds.items():
            for density in DENSITIES:
                bits = make(rng, shape, density)
                methods = ways(bits, codes)
                agree(methods)
                once = {name: values[0, 0] for name, values in interleaved(methods, 1).items()}
                best = min(once.keys() - {"ours", "scipy"}, key=once.__getitem__)
                bincount = min((name for name in once if name.startswith("bincount")), key=once.__getitem__)
                chosen = {"ours": "ours", "bincount": bincount, "best_numpy": best, "scipy": "scipy"}
                times = interleaved({name: methods[name] for name in sorted(set(chosen.values()))}, rounds)
                figure: dict[str, Any] = {"fastest_numpy": best}
                cells = []
                for name, method in chosen.items():
                    seconds = float(np.median(times[method][:, 0]))
                    figure[f"{name}_ns_per_set_bit"] = round(1e9 * seconds / int(bits.sum()), 3)
                    cells.append(f"{name} {1e9 * seconds / bits.sum():6.2f} ({bits.size / seconds / 1e9:5.2f})")
                    figure[f"{name}_neuron_tokens_per_s"] = float(f"{bits.size / seconds:.4g}")
                    if name != "ours":
                        over = [round(value, 2) for value in ratios(times, method, "ours")]
                        figure[f"{name}_over_ours"] = dict(zip(("cpu", "wall"), over, strict=True))
                figures[f"{kernel}_{kind}_{100 * density:g}%"] = figure
                over, over_best = figure["bincount_over_ours"], figure["best_numpy_over_ours"]
                print(f"{kernel:<8}{kind:<12}{density:6.1%}  {'  '.join(cells)}", end="")
                print(f"  bincount takes {over['cpu']:.1f}×, {best} {over_best['cpu']:.1f}×", flush=True)
                if density == BOUND_AT and kind == "independent":
                    bounds[f"{kernel}_bincount_over_ours_cpu_{100 * density:g}%"] = at_least(over["cpu"], BOUND)
                    bounds[f"{kernel}_bincount_over_ours_wall_{100 * density:g}%"] = at_least(over["wall"], BOUND)
    return finish("tabulate", figures, bounds)


if __name__ == "__main__":
    sys.exit(main())
