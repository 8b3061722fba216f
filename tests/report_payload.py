"""Made-up runs as the report page takes them: a second packer of the format, to hold the page against.

Numbers are seeded and random, but agree with each other: flags with triggers, masks with tokens. Some tokens, labels
and names are hostile.
"""

from __future__ import annotations

import base64
import gzip
import json
import pydoc_data.topics
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ASSETS = Path(__file__).parent.parent / "neurolens/report/assets"
SCRIPTS = ("text", "dom", "data", "classes", "panel", "chart", "context", "overview", "columns", "table", "verdict")
SCRIPTS += ("neuron", "token", "app")
BEFORE, AFTER = 40, 23
UNKNOWN = 2**32 - 1
GRAMS = ("unigram", "bigram", "trigram", "fourgram", "fivegram")
TYPES = ("", "oscillatory", "both_extremes", "one_extreme", "other")
STRENGTHS = ("", "weak", "strong")
ALL_PARTS = ("dead", "ngrams", "positions", "contrast", "updates")
SCRIPT = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>"
HOSTILE = [
    SCRIPT.encode(),
    b'"><b onmouseover=window.hacked=3>',
    "\u202eevil\u202c".encode(),  # right-to-left override
    "\u200f\u05e9\u05dc\u05d5\u05dd".encode(),  # right-to-left text and mark
    b"\x00\x07\x1b[31m",
    b"\xed\xa0\x80",  # a lone surrogate
    b"\xf0\x9f",  # an emoji in two tokens,
    b"\x98\x80",  # this is its end
    "e\u0301".encode(),
    "\u0301\u0327".encode(),  # combining marks alone
    b"x" * 300,
    b"",
    b"\n",
    b"\t\t",
    b"  ",
    "\ufeff".encode(),
    "\u2028\u2066".encode(),
    b"&lt;i&gt;&amp;",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467".encode(),
    "\u00a0\u3000".encode(),
    b"__proto__",
    b"constructor",
]


@dataclass
class Made:
    """A run of the page and what it was made from.

    meta    RUN, but for `blobs`
    table   its columns
    layers  arrays of each layer's blob, by layer
    words   bytes of each token
    tokens  int `(sequence, position)`
    """

    meta: dict[str, Any]
    table: dict[str, np.ndarray]
    layers: dict[int, dict[str, np.ndarray]]
    words: list[bytes]
    tokens: np.ndarray
    text: dict[str, np.ndarray]
    blobs: dict[str, Any] = field(default_factory=dict)


def pack(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a blob, compressed."""
    header, parts, offset = {}, [], 0
    for name, array in arrays.items():
        array = np.ascontiguousarray(array)
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = [array.dtype.str[1:], list(array.shape), offset]
        data += bytes(-len(data) % 8)
        parts.append(data)
        offset += len(data)
    head = json.dumps(header).encode()
    head += b" " * (-(4 + len(head)) % 8)
    return gzip.compress(len(head).to_bytes(4, "little") + head + b"".join(parts), 5, mtime=0)


@cache
def some_text(size: int) -> tuple[list[bytes], np.ndarray]:
    """At least `size` tokens of Python's own help: (bytes of each token, ids); `</s>` and HOSTILE come first."""
    text = "\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    words = re.findall(r" ?[A-Za-z]+|\n+| +|[^\sA-Za-z]", re.sub(r"[\x00-\x09\x0b-\x1f]", "", text))
    names = list(dict.fromkeys(words))
    place = {name: i + 1 + len(HOSTILE) for i, name in enumerate(names)}
    ids = np.array([place[word] for word in words], dtype=np.int64)
    return [b"</s>", *HOSTILE, *(name.encode() for name in names)], np.resize(ids, size)


def make_run(
    name: str = "made/opt-made.zarr",
    *,
    layers: int = 4,
    neurons: int = 64,
    sequences: int = 48,
    positions: int = 96,
    labels: tuple[str, ...] = ("code", "prose", "math"),
    parts: tuple[str, ...] = ALL_PARTS,
    grams: int = 3,
    keep: int | None = None,
    bitmaps: bool = True,
    vocabulary: int = 0,
    hostile: float = 0.03,
    seed: int = 0,
) -> Made:
    """A run of the page; `keep`: rows of each layer that the page has (None: all); `hostile`: share of such tokens."""
    random = np.random.default_rng(seed)
    words, flat = some_text(sequences * positions)
    words = [*words, *(f" word{i}".encode() for i in range(vocabulary - len(words)))]
    flat = flat.copy()
    odd = random.random(len(flat)) < hostile
    flat[odd] = random.integers(1, 1 + len(HOSTILE), odd.sum())
    split = np.flatnonzero(flat[:-1] == 1 + HOSTILE.index(b"\xf0\x9f"))
    flat[split + 1] = 1 + HOSTILE.index(b"\x98\x80")  # whole, over two tokens
    tokens = flat.reshape(sequences, positions)
    tokens[:, 0] = 0
    tokens[::3, positions // 2] = 0
    grams = grams if "ngrams" in parts else 0
    n_tokens = 250 * sequences * positions
    flags = ["dead", "dead_but_bos"]
    flags += [f"{GRAMS[n]}_detector{end}" for n in range(grams) for end in ("", "_supported")]
    flags += ["positional"] * ("positions" in parts) + ["suppresses"] * ("updates" in parts)
    bit = {flag: np.uint32(1 << i) for i, flag in enumerate(flags)}

    rows = [np.sort(random.permutation(neurons)[:keep]) for _ in range(layers)]
    layer = np.repeat(np.arange(layers), [len(each) for each in rows])
    neuron = np.concatenate(rows)
    size = len(layer)
    kind = random.choice(6, size, p=[0.1, 0.02, 0.1, 0.05, 0.13, 0.6])  # dead, bos, token, bigram, positional, none
    kind[(kind == 0) & (layer == 0)] = 5
    frequency = 10 ** random.uniform(-4, -0.4, size)
    frequency[(kind == 2) | (kind == 3)] = 10 ** random.uniform(-4, -2.5, size)[(kind == 2) | (kind == 3)]
    activations = np.maximum(1, frequency * n_tokens).astype(np.uint32)
    activations[kind == 0] = 0
    frequency = (activations / n_tokens).astype(np.float32)
    bounds = random.uniform(0.6, 0.98, size).astype(np.float32)
    low, high = frequency * bounds, np.minimum(1, frequency / bounds)
    low[kind == 0] = high[kind == 0] = np.nan
    column = np.zeros(size, np.uint32)
    column[kind == 0] |= bit["dead"]
    column[kind == 1] |= bit["dead_but_bos"]
    table: dict[str, np.ndarray] = {
        "layer": layer.astype(np.uint16),
        "neuron": neuron.astype(np.uint32),
        "activations": activations,
        "frequency": frequency,
        "frequency_low": low,
        "frequency_high": high,
    }
    alive = kind > 1
    trigger = np.full(size, -1, np.int32)
    covering = np.zeros((size, grams), np.uint32)
    suppression = np.full(size, np.nan, np.float32)
    found: list[list[tuple]] = [[] for _ in range(size)]
    common = 1 + np.arange(min(len(words) - 1, 900)) if hostile else 60 + np.arange(min(len(words) - 60, 900))
    for row in np.flatnonzero(alive) if grams else []:
        start = random.choice(common, 64)
        if random.random() < 0.3:
            start[:3] = common[3:6] if random.random() < 0.2 else common[20:23]
        for n in range(1, grams + 1):
            detector = (n == 1 and kind[row] == 2) or (n == 2 and kind[row] == 3)
            count = 5 if n == 1 else 12
            members = int(random.integers(1, 5 if n == 1 else 12)) if detector else 0
            covering[row, n - 1] = members if detector else random.integers(6 if n == 1 else 51, 4000)
            if detector:
                column[row] |= bit[f"{GRAMS[n - 1]}_detector"]
                if activations[row] >= 100:
                    column[row] |= bit[f"{GRAMS[n - 1]}_detector_supported"]
            ons = np.sort(activations[row] * random.dirichlet(np.ones(members or 40)))[::-1]
            ons = np.maximum(1, np.concatenate([ons, np.ones(count)])[: count if members or n > 1 else 5]).astype(int)
            chosen = random.choice(start if n > 1 else start[:5], (len(ons), n), replace=n > 1)
            for i, on in enumerate(ons.tolist()):
                total = on + int(on * random.uniform(0, 0.04)) if i < members else int(on * random.uniform(1.1, 9)) + 1
                projection = float(random.normal(-0.2 if i < members else 0.05, 0.2)) if "updates" in parts else np.nan
                mark = 3 if i < members else 0
                found[row].append((n, chosen[i].tolist(), on, total, mark, projection, int(random.integers(50_000))))
            if n == 1:
                trigger[row] = chosen[0, 0]
        if "updates" in parts and kind[row] == 2:
            suppression[row] = random.normal(-0.2, 0.2)
            if suppression[row] < 0:
                column[row] |= bit["suppresses"]
    if grams:
        table |= {"trigger": trigger, "covering": covering, "suppression": suppression}
    mi = np.where(kind == 4, random.uniform(0.051, 0.6, size), random.uniform(-0.01, 0.049, size)).astype(np.float32)
    types = np.where(kind == 4, random.integers(1, 5, size), 0).astype(np.uint8)
    strengths = np.where(kind == 4, random.integers(1, 3, size), 0).astype(np.uint8)
    if "positions" in parts:
        column[kind == 4] |= bit["positional"]
        table |= {"position_mi": mi, "position_type": types, "position_strength": strengths}
    if "contrast" in parts:
        only, silent = np.full(size, -1, np.int16), np.full(size, -1, np.int16)
        picked = random.random(size)
        only[alive & (picked < 0.04)] = random.integers(len(labels), size=size)[alive & (picked < 0.04)]
        silent[alive & (picked > 0.97)] = random.integers(len(labels), size=size)[alive & (picked > 0.97)]
        table |= {"label_mi": random.exponential(0.01, size).astype(np.float32)}
        table |= {"label_only": only, "label_silent": silent}
    table["flags"] = column

    parts_of_text = _passages(tokens, random)
    label = random.integers(len(labels), size=sequences).astype(np.uint16)
    totals = np.bincount(label, minlength=len(labels)) * positions * 250
    made: dict[int, dict[str, np.ndarray]] = {}
    for i in range(layers):
        of = np.flatnonzero(layer == i)
        made[i] = _layer(of, found, kind, types, activations, n_tokens, totals, tokens, parts_of_text, table, grams,
                         parts, positions, bitmaps, random)  # fmt: skip
    tokens_sorted = [sorted({token for each in triggers for token in each[1]}) for triggers in found]
    table["search_start"] = np.cumsum([0, *map(len, tokens_sorted)]).astype(np.uint32)
    table["search_token"] = np.array([token for each in tokens_sorted for token in each], np.int32)

    def shares(mask: np.ndarray) -> list[int]:
        return np.bincount(layer[mask], minlength=layers).tolist()

    by_layer = {flag: shares((column & bit[flag]) > 0) for flag in flags}
    if "positions" in parts:
        by_layer |= {of: shares(types == i) for i, of in enumerate(TYPES) if i}
    if "contrast" in parts:
        by_layer |= {"label_only": shares(table["label_only"] >= 0), "label_silent": shares(table["label_silent"] >= 0)}
    limits = [] if keep is None else [f"This page has {size:,} of {layers * neurons:,} neurons: {keep} of each layer."]
    limits += [] if bitmaps else ["The run has no bitmaps: in contexts only the sampled activations are marked."]
    text = {"passage_first": parts_of_text[0], "passage_at": parts_of_text[1], "label": label}
    text["passage_token"] = np.concatenate(
        [
            flat[first : first + end - at]
            for first, at, end in zip(*parts_of_text[:2], parts_of_text[1][1:], strict=False)
        ]
    ).astype(np.int32)
    meta = {
        "name": name, "model": "facebook/opt-made", "n_tokens": n_tokens, "sequences": sequences,
        "positions": positions, "layers": list(range(layers)), "neurons": neurons,
        "rows": size, "complete": size == layers * neurons,
        "limits": limits, "facts": [
            ["model", "facebook/opt-made"], ["dtype", "float32"],
            ["text", f"{n_tokens:,} tokens: {sequences:,} sequences of {positions}"], ["labels", ", ".join(labels)],
            ["layers", f"{layers} of {neurons:,} neurons"], ["written by", "neurolens 0.1.0"],
        ],
        "totals": {of: sum(each) for of, each in by_layer.items()}, "by_layer": by_layer, "labels": list(labels),
        "label_totals": totals.tolist(), "parts": list(parts), "rules": {
            "max_covering": 5, "max_covering_ngrams": 50, "coverage": 95, "rate": 95, "support_occurrences": 5,
            "support_activations": 100, "mi_threshold": 0.05,
            "wilson_z": 1.6448536,
        },
        "flags": flags, "types": list(TYPES), "strengths": list(STRENGTHS), "grams": grams, "eos": 0,
        "window": [BEFORE, AFTER], "bitmaps": bitmaps,
    }  # fmt: skip
    return Made(meta, table, made, words, tokens, text)


def _passages(tokens: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Most sequences as they are, of the others two parts: (passage_first, passage_at)."""
    sequences, positions = tokens.shape
    first, length = [], []
    for sequence in range(sequences):
        if random.random() < 0.7:
            first, length = [*first, sequence * positions], [*length, positions]
        else:
            third = positions // 3
            first = [*first, sequence * positions, sequence * positions + 2 * third]
            length = [*length, third, third]
    return np.array(first, np.uint32), np.cumsum([0, *length]).astype(np.uint32)


def _layer(of, found, kind, types, activations, n_tokens, totals, tokens, text, table, grams, parts, positions, bitmaps,
           random) -> dict[str, np.ndarray]:  # fmt: skip
    """The arrays of a layer's blob; `of`: its rows."""
    triggers = [each for row in of for each in found[row]]
    arrays: dict[str, np.ndarray] = {}
    if grams:
        ids = np.full((len(triggers), grams), -1, np.int32)
        for i, each in enumerate(triggers):
            ids[i, grams - each[0] :] = each[1]
        on = np.array([each[2] for each in triggers], np.uint32)
        total = np.array([each[3] for each in triggers], np.uint32)
        arrays |= {
            "trigger_start": np.cumsum([0, *(len(found[row]) for row in of)]).astype(np.uint32),
            "trigger_n": np.array([each[0] for each in triggers], np.uint8),
            "trigger_tokens": ids, "on": on, "total": total,
            "trigger_flags": np.array([each[4] for each in triggers], np.uint8),
            "projection": np.array([each[5] for each in triggers], np.float32),
            "rank": np.array([each[6] if "updates" in parts else -1 for each in triggers], np.int32),
            "activations_n": np.repeat(activations[of, None], grams, 1).astype(np.uint32),
        }  # fmt: skip
        arrays["activations_n"][random.random(len(of)) < 0.05, 1:] = UNKNOWN
    if "updates" in parts:
        projected = np.flatnonzero((kind[of] >= 2) & (kind[of] <= 4))
        k, shape = 10, (len(projected), 10)
        ends = random.integers(1, 900, (2, *shape)).astype(np.int32)
        ends[0, :, k - 1] = -1
        sizes = np.sort(random.uniform(0.1, 1, (2, *shape)), axis=2)[:, :, ::-1].astype(np.float32)
        arrays |= {
            "update_row": projected.astype(np.uint32), "promoted": ends[0], "suppressed": ends[1],
            "promoted_projection": sizes[0], "suppressed_projection": -sizes[1],
            "projection_mean": random.normal(0, 0.02, len(projected)).astype(np.float32),
        }  # fmt: skip
    flat = tokens.reshape(-1)
    spans = list(zip(text[0].astype(int), np.diff(text[1]).astype(int), strict=True))
    inside = np.concatenate([np.arange(first, first + length) for first, length in spans])
    by_token: dict[int, np.ndarray] = {}
    contexts, starts = [], [0]
    for row in of:
        token = int(table["trigger"][row]) if grams else -1
        if token not in by_token:
            by_token[token] = inside[flat[inside] == token]
        pool = by_token[token] if len(by_token[token]) > 3 else inside
        chosen = random.choice(pool, min(16, len(pool), int(activations[row])), replace=False) if kind[row] else []
        contexts.append(np.sort(chosen).astype(np.int64))
        starts.append(starts[-1] + len(chosen))
    centre = np.concatenate([*contexts, np.zeros(0, np.int64)]).astype(np.int64)
    reach = centre[:, None] + np.arange(-BEFORE, AFTER + 1)
    same = (reach // positions == centre[:, None] // positions) & (reach >= 0)
    if grams:
        owner = np.repeat(table["trigger"][of], np.diff(starts))
        active = flat[np.clip(reach, 0, len(flat) - 1)] == owner[:, None]
    else:
        active = np.zeros(reach.shape, bool)
    active |= random.random(active.shape) < 0.05
    active &= same & bitmaps
    active[:, BEFORE] = True
    words = np.packbits(active, axis=1, bitorder="little").view("<u4").astype(np.uint32)
    shares = random.dirichlet(np.ones(len(totals)), len(of)) if len(totals) else np.zeros((len(of), 0))
    bins, fine = min(positions, 32), min(positions, 96)
    share = activations[of] / n_tokens
    wave = 1 + np.sin(np.arange(fine)[None] / fine * 6.28 * (1 + types[of, None]) + of[:, None])
    curve = np.clip(
        share[:, None] * np.where(types[of, None] > 0, wave, random.uniform(0.9, 1.1, (len(of), fine))), 0, 1
    )
    coarse = curve[:, np.linspace(0, fine - 1, bins).astype(int)]
    positional = np.flatnonzero(types[of] > 0) if "positions" in parts else np.zeros(0, int)
    return arrays | {
        "context_start": np.array(starts, np.uint32), "context_token": centre.astype(np.uint32), "context_mask": words,
        "label_on": np.minimum(shares * activations[of, None], totals).astype(np.uint32),
        "curve": _of_top(coarse), "curve_top": coarse.max(1).astype(np.float32),
        "fine_row": positional.astype(np.uint32), "fine": _of_top(curve[positional]),
        "fine_top": curve[positional].max(1).astype(np.float32),
    }  # fmt: skip


def _of_top(curve: np.ndarray) -> np.ndarray:
    """In 255ths of the greatest value."""
    return np.round(255 * curve / np.maximum(curve.max(1, keepdims=True), 1e-30)).astype(np.uint8)


def _charts(runs: list[Made]) -> list[dict[str, Any]]:
    """Figures as a real page has them, from the numbers of these runs."""
    charts: list[dict[str, Any]] = []

    def chart(of: str, title: str, kind: str, series: list[dict], y: str, *, source: str = "ours", percent: bool = True,
              x: dict | None = None, part: str = "dead", note: str = "") -> None:  # fmt: skip
        widest = max(runs, key=lambda run: len(run.meta["layers"]))
        layers = {"label": "layer", "values": widest.meta["layers"], "log": False}
        x = x or layers
        for each in series:
            each.setdefault("x", x["values"])
            if len(runs) > 1:
                each["name"] = f"{runs[each['run']].meta['name']} · {each['name']}"
        told = {"id": of, "title": title, "source": source, "part": part, "kind": kind, "note": note, "series": series}
        charts.append(told | {"x": {**x, "values": []}, "y": {"label": y, "percent": percent}})

    def of_class(run: Made, number: int, of: str, name: str, **more: Any) -> dict[str, Any]:
        y = np.array(run.meta["by_layer"].get(of, [0] * len(run.meta["layers"]))) / run.meta["neurons"]
        spread = 1.5 * np.sqrt(y * (1 - y) / run.meta["neurons"])
        bounds = {"low": np.maximum(0, y - spread).tolist(), "high": np.minimum(1, y + spread).tolist()}
        return {"name": name, "run": number, "y": y.tolist(), "rows": {"class": of}} | bounds | more

    numbered = list(enumerate(runs))
    chart("dead", "Dead neurons", "line", [of_class(run, i, "dead", "dead") for i, run in numbered],
          "neurons of the layer", source="paper, Fig. 1a", note="Active on no token of the text.")  # fmt: skip
    means = []
    for i, run in numbered:
        y = [float(run.table["frequency"][run.table["layer"] == layer].mean()) for layer in run.meta["layers"]]
        means.append({"name": "frequency", "run": i, "y": [None if i == 1 and not k else v for k, v in enumerate(y)]})
    chart("frequency", "Mean activation frequency", "line", means, "tokens", source="paper, Fig. 1b")
    if all("ngrams" in run.meta["parts"] for run in runs):
        both = [
            of_class(run, i, f"unigram_detector{end}", name, low=None, high=None, dash=bool(end))
            for i, run in numbered
            for end, name in (("", "all by the rules"), ("_supported", "well supported"))
        ]
        both = [{key: value for key, value in each.items() if value is not None} for each in both]
        chart(
            "detectors", "Token detectors", "bars", both, "neurons of the layer", part="ngrams", source="paper, Fig. 3a"
        )
    if all("positions" in run.meta["parts"] for run in runs):
        stacks = []
        for i, run in numbered:
            for of in TYPES[1:]:
                y = run.meta["by_layer"][of]
                stacks.append({"name": of.replace("_", " "), "run": i, "y": y, "rows": {"class": of}})
        chart("positional", "Positional neurons by type", "stack", stacks, "neurons", percent=False, part="positions")
    steps = (10 ** np.linspace(2, 6, 30)).round().tolist()
    seen = [
        {
            "name": f"layer {layer}",
            "run": i,
            "x": steps,
            "y": (1 - np.exp(-np.array(steps) / 10 ** (3 + layer / 3))).tolist(),
        }
        for i, run in numbered
        for layer in run.meta["layers"]
    ]
    chart("saturation", "Neurons seen alive against tokens read", "line", seen, "neurons of the layer",
          x={"label": "tokens read", "values": steps, "log": True})  # fmt: skip
    if all("updates" in run.meta["parts"] for run in runs):
        lines = []
        for i, run in numbered:
            for k, of in enumerate(("detectors", "other neurons, same triggers", "same neurons, other tokens")):
                y = np.random.default_rng(k + 7 * i).uniform(0.3, 0.9, len(run.meta["layers"]))
                bounds = {"low": (y * 0.85).tolist(), "high": (0.15 + y * 0.85).tolist()}
                lines.append({"name": of, "run": i, "y": y.tolist(), "dash": k > 0} | bounds)
        chart("suppression", "Detectors that suppress their triggers", "line", lines, "token detectors", part="updates",
              source="paper, §4.4", note="Dashed: what there is without any relation of the two.")  # fmt: skip
    if all("contrast" in run.meta["parts"] for run in runs):
        names = runs[0].meta["labels"]
        bars = [
            {"name": of, "run": i, "y": [float((run.table[column] == k).sum()) for k in range(len(names))]}
            for i, run in numbered
            for of, column in (("active in it alone", "label_only"), ("silent in it alone", "label_silent"))
        ]
        chart("labels", "Neurons of one label", "bars", bars, "neurons", percent=False, part="contrast",
              x={"label": "label", "values": names, "log": False})  # fmt: skip
    return charts


def make_page(*runs: Made, title: str = "opt-made.zarr") -> tuple[dict[str, Any], list[bytes]]:
    """(META, blobs): the table and the vocabulary of each run first."""
    blobs: list[bytes] = []

    def add(arrays: dict[str, np.ndarray]) -> str:
        blobs.append(pack(arrays))
        return f"b{len(blobs) - 1}"

    for run in runs:
        starts = np.cumsum([0, *map(len, run.words)]).astype(np.uint32)
        run.blobs["table"] = add(run.table)
        run.blobs["vocabulary"] = add({"start": starts, "bytes": np.frombuffer(b"".join(run.words), np.uint8)})
    for run in runs:
        run.blobs["text"] = add(run.text)
        run.blobs["layers"] = {str(layer): add(arrays) for layer, arrays in run.layers.items()}
    metas = [{**run.meta, "blobs": run.blobs} for run in runs]
    return {"format": 1, "title": title, "version": "0.1.0", "runs": metas, "charts": _charts([*runs])}, blobs


def render(meta: dict[str, Any], blobs: list[bytes]) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    text = json.dumps(meta, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    templates = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined)
    return templates.get_template("page.html").render(
        title=meta["title"],
        runs=meta["runs"],
        meta=Markup(text),
        blobs=[(f"b{i}", base64.b64encode(blob).decode()) for i, blob in enumerate(blobs)],
        styles=(ASSETS / "page.css").read_text("utf-8"),
        scripts=[(name, (ASSETS / f"{name}.js").read_text("utf-8")) for name in SCRIPTS],
    )
