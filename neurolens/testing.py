"""Models with known answers, for anyone who writes an analysis.

`planted_opt` writes an OPT checkpoint whose weights are built by hand, so that for every neuron of every layer it
is known, exactly and from the token ids alone, where it is active. `random_opt` writes a checkpoint of a given or
published shape with random weights: nothing is known about it, but it has the size and the quirks of the real one.
Both are ordinary Hugging Face directories (config, safetensors, tokenizer): every tool reads them as any model.

How a planted neuron works. The residual stream is divided into subspaces: one-hot vectors of the token (`now`),
the previous one (`before`), the one before that (`before2`) and the position (`at`); `out`, to which every FFN and
every attention after the copying writes and from which no planted neuron reads; `rest`, which is always 0.
Two attention heads of layer 0 copy the previous tokens. A neuron gives points to what stands there and is active
where they reach what it needs (`Rule`). Its row of W_in holds the points; minus the threshold stands on all of
`at`, whose one-hot always sums to 1, and not in fc1.bias: so the LayerNorm's σ, which differs from token to token,
scales the whole pre-activation and never changes its sign. Rows sum to 0 (what is missing stands on `rest`), so
that the LayerNorm's mean does not matter either. Points are integers and the threshold lies half-way between two:
no pre-activation comes near 0, dead neurons included, and rounding flips no bit.

New kinds of neurons are new entries in `_plan`: bigrams are points on `before` and `now`, position ranges on `at`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

BOS, UNK, SPECIAL = 2, 3, 4  # `<s>`, `<pad>`, `</s>` (begins a sequence, ends a document), `<unk>`; words from 4
DEAD, DEAD_BUT_BOS, UNIGRAM_DETECTOR, OTHER = "dead", "dead_but_bos", "unigram_detector", "other"

# Tokens with a constructed number of occurrences, so that a share of exactly 94% or 95% is a whole number of them.
COUNTS = {"once": 1, "few": 4, "ten": 10, "ten'": 10, "ten''": 10, "94": 94, "188": 188, "95": 95, "190": 190}
COUNTS |= {"100": 100, "200": 200, "360": 360}

RESERVED = 16  # coordinates of `rest`: several, so that no single weight is large
SCORE_GAP = 170.0  # of the copying heads: the softmax is exactly 0 elsewhere (a gap of 11 leaks, 5 breaks)


@dataclass(frozen=True)
class Rule:
    """Active where the points of what stands there add up to at least `need`.

    `now`, `before`, `before2`: points by token id for the token itself, the previous one and the one before that,
    whether or not a document ends between them; before the first column stands what the first column holds (BOS).
    `at`: points by position. What is not named has 0 points.
    """

    need: int
    now: Mapping[int, int] = field(default_factory=dict)
    before: Mapping[int, int] = field(default_factory=dict)
    before2: Mapping[int, int] = field(default_factory=dict)
    at: Mapping[int, int] = field(default_factory=dict)

    def active(self, tokens: np.ndarray) -> np.ndarray:
        """Token ids `(S, T)` integer → where the neuron is active, `(S, T)` bool. No model is asked."""
        columns = np.arange(tokens.shape[1])
        points = np.zeros(tokens.shape, dtype=np.int64)
        for given, what in (
            (self.now, tokens),
            (self.before, _earlier(tokens, 1)),
            (self.before2, _earlier(tokens, 2)),
            (self.at, np.broadcast_to(columns, tokens.shape)),
        ):
            for key, value in given.items():
                points += value * (what == key)
        return points >= self.need


@dataclass(frozen=True)
class PlantedNeuron:
    """What is known about one neuron.

    `kind`: `dead`, `dead_but_bos`, `unigram_detector` (the columns of `results/neurons`, thresholds of the paper)
    or `other`. `triggers`: of a detector its covered tokens, ascending, and of a near miss those it would be one
    for; empty otherwise. `misses`: the rule that a near miss fails, and fails alone: `rate` (active at 94% of its
    token), `coverage` (covered tokens account for 94% of its activations), `number` (covering number 6), `dead`
    (one activation), `dead_but_bos` (on `</s>` and at one other token); empty for the rest.
    """

    layer: int
    neuron: int
    kind: str
    rule: Rule
    triggers: tuple[int, ...] = ()
    misses: str = ""

    @property
    def near_miss(self) -> bool:
        """Whether it was planted to fail one rule narrowly."""
        return bool(self.misses)


@dataclass(frozen=True, eq=False)
class Planted:
    """A checkpoint, the corpus it was planted for, and all the answers.

    `folder` holds the checkpoint; `neurons` every neuron of every layer, by layer, then neuron; `tokens` int32
    `(S, T)` with BOS in column 0. Counts are exact over the whole of `tokens`, in any order of its sequences.
    """

    folder: Path
    neurons: tuple[PlantedNeuron, ...]
    tokens: np.ndarray

    def of(self, kind: str, layer: int | None = None) -> list[PlantedNeuron]:
        """The neurons of a kind, in one layer or in all."""
        return [n for n in self.neurons if n.kind == kind and layer in (None, n.layer)]

    def near_misses(self, rule: str, layer: int | None = None) -> list[PlantedNeuron]:
        """The neurons that fail only this rule (see `PlantedNeuron`), in one layer or in all."""
        return [n for n in self.neurons if n.misses == rule and layer in (None, n.layer)]

    def truth(self) -> dict[str, np.ndarray]:
        """For `dead`, `dead_but_bos` and `unigram_detector`: which neurons are, bool `(layers, neurons)`."""
        kinds = np.array([n.kind for n in self.neurons]).reshape(self.neurons[-1].layer + 1, -1)
        return {kind: kinds == kind for kind in (DEAD, DEAD_BUT_BOS, UNIGRAM_DETECTOR)}

    def active(self, layer: int, tokens: np.ndarray | None = None) -> np.ndarray:
        """Where each neuron of a layer is active, by its rule: bool `(neurons, S·T)`; for other `tokens` if given."""
        tokens = self.tokens if tokens is None else tokens
        return np.stack([n.rule.active(tokens).ravel() for n in self.neurons if n.layer == layer])

    def texts(self) -> list[str]:
        """Documents that give `tokens` back when they are tokenised (without special tokens), joined by one `</s>`
        each and cut into sequences of T − 1, each with BOS in front. Documents run on from a sequence to the next."""
        stream = self.tokens[:, 1:].ravel()
        return [" ".join(f"t{t}" for t in part if t != BOS) for part in np.split(stream, np.flatnonzero(stream == BOS))]


def planted_opt(
    folder: str | Path,
    *,
    vocab_size: int = 48,
    positions: int = 64,
    layers: int = 3,
    neurons: int = 64,
    sequences: int = 128,
    disguise: bool = False,
    seed: int = 0,
) -> Planted:
    """Write an OPT checkpoint with known neurons into `folder`, and say what is known.

    Every layer holds `neurons` neurons: dead ones; some active on `</s>` only (anywhere, in column 0, between
    documents); token detectors with 1 to 5 triggers, half of which are active on `</s>` too, with rates and
    coverages of exactly 95%, and with ties in the covering set; near misses of each rule; neurons that are
    always, half of the time or on many tokens active, by the token itself or by the previous ones. The corpus has
    `sequences` × `positions` tokens, several documents to a sequence, and each word of the vocabulary.

    `disguise` changes no output of the model: it rotates the residual stream (the all-ones direction stays, so that
    LayerNorm commutes), gives the LayerNorms random gains and biases that the next weights undo, and shuffles the
    neurons. Nothing is axis-aligned then. fp32; the bits are exact with any batch size.
    """
    folder = Path(folder)
    tokens, ids = _corpus(vocab_size, positions, sequences, np.random.default_rng([seed, 0]))
    plans = [_plan(tokens, ids, vocab_size, neurons, np.random.default_rng([seed, 1, i])) for i in range(layers)]
    rules = [[rule for _, rule, _, _ in plan] for plan in plans]
    weights, shape = _weights(rules, vocab_size, positions, np.random.default_rng([seed, 2]))
    order = np.tile(np.arange(neurons), (layers, 1))
    if disguise:
        order = _disguise(weights, layers, np.random.default_rng([seed, 3]))
    _save_model(folder, weights, shape)
    _save_tokenizer(folder, [f"t{i}" for i in range(SPECIAL, vocab_size)])
    planted = [PlantedNeuron(i, n, *plans[i][entry]) for i in range(layers) for n, entry in enumerate(order[i])]
    return Planted(folder, tuple(planted), tokens)


# --- the corpus and the rules --------------------------------------------------------------------------------------


def _earlier(tokens: np.ndarray, by: int) -> np.ndarray:
    """The token `by` columns to the left, `(S, T)`; where there is none, that of column 0."""
    return tokens[:, np.maximum(np.arange(tokens.shape[1]) - by, 0)]


def _corpus(vocab: int, positions: int, sequences: int, rng: Any) -> tuple[np.ndarray, dict[str, int]]:
    """Sequences int32 `(S, T)` with the constructed counts, and the ids of the tokens that have them."""
    tokens = np.zeros((sequences, positions), dtype=np.int32)
    tokens[:, 0] = BOS
    # between two separators stands a word, and none stands at either end of a sequence, where packers may differ
    places = np.arange(2, positions - 1, 2)
    for row in tokens:
        row[rng.choice(places, size=rng.integers(0, 4), replace=False)] = BOS
    words = rng.permutation(np.arange(SPECIAL, vocab))
    ids = {name: int(word) for name, word in zip(COUNTS, words, strict=False)}
    usual = words[len(COUNTS) :]  # about equally frequent: six of them have a covering number of six
    free = np.flatnonzero(tokens.ravel() == 0)
    left = len(free) - sum(COUNTS.values())
    if len(usual) < 20 or left < 20 * len(usual):
        least = SPECIAL + len(COUNTS) + 20
        raise ValueError(
            f"vocab_size {vocab} and {sequences} × {positions} tokens: expected at least {least} and more than "
            f"{sum(COUNTS.values())} + 20 for each further word; enlarge the one that is too small"
        )
    share = rng.uniform(0.75, 1.25, len(usual))
    counts = np.floor(left * share / share.sum()).astype(int)
    counts[: left - counts.sum()] += 1
    stream = np.repeat(np.concatenate([list(ids.values()), usual]), [*COUNTS.values(), *counts])
    tokens.ravel()[free] = rng.permutation(stream)
    return tokens, ids


Entry = tuple[str, Rule, tuple[int, ...], str]  # kind, rule, triggers, missed rule


def _plan(tokens: np.ndarray, ids: dict[str, int], vocab: int, neurons: int, rng: Any) -> list[Entry]:
    """What a layer holds."""
    words = np.arange(SPECIAL, vocab)
    usual = np.setdiff1d(words, list(ids.values()))
    hundred, columns = ids["100"], np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    context = {"at": columns, "before": _earlier(tokens, 1)}
    plan: list[Entry] = []

    def some(of: np.ndarray, count: int) -> list[int]:
        return rng.choice(of, size=count, replace=False).tolist()

    def where(token: int, target: int, by: str) -> list[int]:
        """Positions or previous tokens with which `token` occurs `target` times in all: a random subset sum."""
        values, counts = np.unique(context[by][tokens == token], return_counts=True)
        reached: dict[int, list[int]] = {0: []}
        for i in rng.permutation(len(values)):
            for total, chosen in list(reached.items()):
                if (more := total + int(counts[i])) <= target:
                    reached.setdefault(more, [*chosen, int(values[i])])
        if target not in reached:
            raise ValueError(f"no choice of {by} makes {target} occurrences of token {token}; try another seed")
        return reached[target]

    def add(kind: str, rule: Rule, triggers: Sequence[int] = (), misses: str = "") -> None:
        plan.append((kind, rule, tuple(sorted(triggers)), misses))

    def points(given: Sequence[int], value: int = 1) -> dict[int, int]:
        return dict.fromkeys(given, value)

    alone = where(hundred, 1, "at")  # where this token stands in one sequence only
    never = int(rng.choice(np.setdiff1d(columns[0, 1:], columns[tokens == ids["once"]])))
    for _ in range(3):
        add(DEAD, Rule(1))
    add(DEAD, Rule(1, now=points([UNK])))  # could fire, on what the corpus does not hold
    add(DEAD, Rule(2, now=points([ids["once"]]), at=points([never])))
    add(OTHER, Rule(2, now=points([hundred]), at=points(alone)), misses=DEAD)

    add(DEAD_BUT_BOS, Rule(1, now=points([BOS])))
    add(DEAD_BUT_BOS, Rule(2, now=points([BOS]), at=points([0])))
    add(DEAD_BUT_BOS, Rule(1, now=points([BOS]), at=points([0], -1)))
    add(OTHER, Rule(2, now={BOS: 2, hundred: 1}, at=points(alone)), misses=DEAD_BUT_BOS)

    for count in (1, 2, 3, 4, 5, 6):
        kind, misses = (UNIGRAM_DETECTOR, "") if count <= 5 else (OTHER, "number")
        for also in ([], [BOS]):  # `</s>` is in no n-gram: being active on it changes nothing
            triggers = some(usual, count)
            add(kind, Rule(1, now=points(triggers + also)), triggers, misses)
    for name in ("once", "few"):
        add(UNIGRAM_DETECTOR, Rule(1, now=points([ids[name]])), [ids[name]])
    for by in ("at", "before"):
        for percent, kind, misses in ((95, UNIGRAM_DETECTOR, ""), (94, OTHER, "rate")):
            for name in ("100", "200"):
                off = where(ids[name], COUNTS[name] * (100 - percent) // 100, by)
                rule = Rule(1, now=points([ids[name]]), **{by: points(off, -1)})
                add(kind, rule, [ids[name]], misses)
        for percent, names, kind, misses in (
            (95, ("95",), UNIGRAM_DETECTOR, ""),
            (95, ("95", "190"), UNIGRAM_DETECTOR, ""),
            (94, ("94",), OTHER, "coverage"),
            (94, ("94", "188"), OTHER, "coverage"),
        ):
            covered = [ids[name] for name in names]
            extra = sum(COUNTS[name] for name in names) * (100 - percent) // percent
            rule = Rule(2, now=points(covered, 2) | {hundred: 1}, **{by: points(where(hundred, extra, by))})
            add(kind, rule, covered, misses)
    # 360 + 4·10 activations: the cover takes two of the four tens. Only with all ties in the covering set does
    # it not matter which: one of the four is not covered, and 360 + 10 were too few.
    covered = [ids[name] for name in ("360", "ten", "ten'", "ten''")]
    rule = Rule(2, now=points(covered, 2) | {hundred: 1}, at=points(where(hundred, 10, "at")))
    add(UNIGRAM_DETECTOR, rule, covered)

    half = len(words) // 2
    add(OTHER, Rule(0))  # always
    add(OTHER, Rule(1, now=points([BOS, *some(words, half)])))
    add(OTHER, Rule(1, before=points(some(words, half))))  # these three see whether attention does its work
    add(OTHER, Rule(1, before2=points(some(words, half))))
    add(OTHER, Rule(2, now=points(some(words, half)), before=points(some(words, half)), before2=points([BOS])))
    if neurons < len(plan) + 1:
        raise ValueError(f"neurons {neurons}: expected at least {len(plan) + 1}, one for each kind that is planted")
    while len(plan) < neurons:
        add(OTHER, Rule(1, now=points(some(usual, int(rng.integers(8, len(usual)))))))
    return plan


# --- the weights ---------------------------------------------------------------------------------------------------


Weights = dict[str, np.ndarray]


def _weights(rules: list[list[Rule]], vocab: int, positions: int, rng: Any) -> tuple[Weights, dict[str, Any]]:
    """Parameters by their name below `model.decoder.`, float64, axis-aligned; and the shape for `OPTConfig`."""
    head = -(-max(vocab, positions) // 8) * 8  # a head must hold a one-hot of either
    heads = max(3, -(-(4 * vocab + positions + RESERVED) // head))
    width, neurons = head * heads, len(rules[0])
    now, before, before2, at, rest, out = np.cumsum([0, vocab, vocab, vocab, positions, RESERVED]).tolist()

    def read(rows: np.ndarray) -> np.ndarray:
        """Rows made to sum to 0, by weights on coordinates that are always 0."""
        rows[..., rest:out] -= rows.sum(-1, keepdims=True) / RESERVED
        return rows

    def vectors(count: int, norm: float) -> np.ndarray:
        """Random vectors in `out` that sum to 0, `(count, width)`."""
        made = np.zeros((count, width))
        made[:, out:] = rng.standard_normal((count, width - out))
        made[:, out:] -= made[:, out:].mean(1, keepdims=True)
        return made * (norm / np.linalg.norm(made, axis=1, keepdims=True))

    # |embedding|² and its sum are the same for all tokens and positions: so is σ where the copying heads read
    embed, place = vectors(vocab, 1.0), np.zeros((positions + 2, width))
    embed[np.arange(vocab), now + np.arange(vocab)] = 1.0
    place[2 + np.arange(positions), at + np.arange(positions)] = 1.0
    sigma = np.sqrt(3 / width - (2 / width) ** 2 + 1e-5)
    weights = {"embed_tokens.weight": embed, "embed_positions.weight": place}
    for layer, rules_here in enumerate(rules):
        # heads that look at anything and write a little to `out`
        q, k, v = (rng.standard_normal((width, width)) * s / width**0.5 for s in (1.5, 1.5, 1.0))
        o = vectors(width, 0.4 / width**0.5).T
        bq, bk, bv = rng.standard_normal((3, width)) * 0.2
        for by, target in ((1, before), (2, before2)) if layer == 0 else ():
            rows = slice((by - 1) * head, by * head)
            for array in (q[rows], k[rows], v[rows], o[:, rows], bq[rows], bk[rows], bv[rows]):
                array[:] = 0.0
            gain = sigma * (SCORE_GAP * head**0.5) ** 0.5
            # position j is the key of query j + by, position 0 also that of the first queries, which have nothing
            # earlier. What comes later would fit better still: attention that is not causal copies the wrong token.
            p, t = np.arange(positions), np.arange(vocab)
            q[rows.start + p, at + p] = gain
            k[rows.start : rows.start + positions, at:rest] = np.triu(np.full((positions, positions), 1.5 * gain), 1)
            k[rows.start + p, at + np.maximum(p - by, 0)] = gain
            v[rows.start + t, now + t] = sigma
            o[target + t, rows.start + t] = 1.0
            for array in (q, k, v):
                read(array[rows])
        fc1 = np.zeros((neurons, width))
        for row, rule in zip(fc1, rules_here, strict=True):
            row[at:rest] = 0.5 - rule.need
            for start, given in ((now, rule.now), (before, rule.before), (before2, rule.before2), (at, rule.at)):
                for key, value in given.items():
                    row[start + key] += value
        name = f"layers.{layer}."
        weights |= {f"{name}self_attn.{p}_proj.weight": w for p, w in (("q", q), ("k", k), ("v", v), ("out", o))}
        weights |= {f"{name}self_attn.{p}_proj.bias": b for p, b in (("q", bq), ("k", bk), ("v", bv))}
        weights[f"{name}self_attn.out_proj.bias"] = vectors(1, 0.2)[0]
        weights |= {f"{name}fc1.weight": read(fc1), f"{name}fc1.bias": np.zeros(neurons)}
        weights |= {f"{name}fc2.weight": vectors(neurons, 0.15).T, f"{name}fc2.bias": vectors(1, 0.2)[0]}
        for norm in (f"{name}self_attn_layer_norm", f"{name}final_layer_norm"):
            weights |= {f"{norm}.weight": np.ones(width), f"{norm}.bias": np.zeros(width)}
    weights |= {"final_layer_norm.weight": np.ones(width), "final_layer_norm.bias": np.zeros(width)}
    shape = {
        "vocab_size": vocab,
        "hidden_size": width,
        "ffn_dim": neurons,
        "num_hidden_layers": len(rules),
        "num_attention_heads": heads,
        "max_position_embeddings": positions,
    }
    return weights, shape


def _disguise(weights: Weights, layers: int, rng: Any) -> np.ndarray:
    """Rotate, rescale and shuffle in place; the model computes the same. Returns `(layers, neurons)`: old indices."""
    width = weights["embed_tokens.weight"].shape[1]
    ones = np.full((width, 1), width**-0.5)
    bases = [np.linalg.qr(np.hstack([ones, rng.standard_normal((width, width - 1))]))[0][:, 1:] for _ in range(2)]
    turn = ones @ ones.T + bases[0] @ bases[1].T  # orthogonal, and leaves the all-ones vector where it is
    for name in ("embed_tokens.weight", "embed_positions.weight"):
        weights[name] = weights[name] @ turn.T
    order = []
    for layer in range(layers):
        part = f"layers.{layer}."
        for norm, readers in (
            ("self_attn_layer_norm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("final_layer_norm", ("fc1",)),
        ):
            gain, bias = rng.uniform(0.5, 2.0, width), 0.3 * rng.standard_normal(width)
            weights[f"{part}{norm}.weight"], weights[f"{part}{norm}.bias"] = gain, bias
            for reader in (part + r for r in readers):
                weights[f"{reader}.weight"] = weights[f"{reader}.weight"] @ turn.T / gain
                weights[f"{reader}.bias"] = weights[f"{reader}.bias"] - weights[f"{reader}.weight"] @ bias
        for writer in (f"{part}self_attn.out_proj", f"{part}fc2"):
            weights[f"{writer}.weight"] = turn @ weights[f"{writer}.weight"]
            weights[f"{writer}.bias"] = turn @ weights[f"{writer}.bias"]
        order.append(rng.permutation(len(weights[f"{part}fc1.bias"])))
        for name, axis in (("fc1.weight", 0), ("fc1.bias", 0), ("fc2.weight", 1)):
            weights[part + name] = np.take(weights[part + name], order[-1], axis=axis)
    return np.array(order)


# --- checkpoints ---------------------------------------------------------------------------------------------------

_POST_LN = {"word_embed_proj_dim": 512, "do_layer_norm_before": False}
OPT_SHAPES: dict[str, dict[str, Any]] = {
    name: {"hidden_size": width, "ffn_dim": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads}
    | (_POST_LN if name == "350m" else {})
    for name, width, layers, heads in (
        ("125m", 768, 12, 12),
        ("350m", 1024, 24, 16),
        ("1.3b", 2048, 24, 32),
        ("2.7b", 2560, 32, 32),
        ("6.7b", 4096, 32, 32),
        ("13b", 5120, 40, 40),
        ("30b", 7168, 48, 56),
        ("66b", 9216, 64, 72),
    )
}
"""The published OPT models, by size, in the words of `OPTConfig`; all have 50272 embeddings and 2048 positions."""


def random_opt(
    folder: str | Path,
    shape: str | Mapping[str, Any] = "125m",
    *,
    layers: int | None = None,
    vocab_size: int = 50272,
    positions: int = 2048,
    dtype: str = "float32",
    words: int | None = None,
    threshold: float = 1.0,
    seed: int = 0,
) -> Path:
    """Write an OPT checkpoint with random weights into `folder`, and return that.

    `shape`: a name of `OPT_SHAPES` or settings of `OPTConfig` (at least those of `OPT_SHAPES["125m"]`, which win over
    `vocab_size` and `positions`). `layers`: only so many. `dtype`: `float32` or `float16`, of the stored weights.
    `words`: None for a byte-level tokenizer (260 ids; any text), else a word-level one that knows `t4` … `t{words-1}`;
    either may be smaller than the model's vocabulary, as OPT's own is. `threshold`: how far, in standard deviations
    of the pre-activation, the mean of fc1.bias lies below 0; 1 gives about a fifth of all bits. Biases and
    LayerNorms are random as well, so that one left out shows.
    """
    import torch
    from transformers import OPTForCausalLM

    settings = {"vocab_size": vocab_size, "max_position_embeddings": positions}
    settings |= OPT_SHAPES[shape] if isinstance(shape, str) else dict(shape)
    if layers is not None:
        settings["num_hidden_layers"] = layers
    size = 260 if words is None else words
    if not SPECIAL < size <= settings["vocab_size"]:
        raise ValueError(f"a tokenizer of {size} ids: expected {SPECIAL + 1} to {settings['vocab_size']}, the model's")
    with torch.device("meta"):
        model: Any = OPTForCausalLM(_config(settings))
    model = model.to(getattr(torch, dtype)).to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean, deviation = 0.0, 0.1
            if "layer_norm.weight" in name:
                mean = 1.0
            elif name.endswith("fc1.bias"):
                mean, deviation = -threshold, 0.5
            elif "embed_" in name:
                deviation = 1.0
            elif parameter.dim() == 2:
                # what is written is small, else a deep post-LN model loses its input and every bit is constant
                writes = "out_proj" in name or "fc2" in name
                deviation = (parameter.shape[1] * (2 * settings["num_hidden_layers"] if writes else 1)) ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation + mean)
    folder = Path(folder)
    model.save_pretrained(folder)
    _save_tokenizer(folder, None if words is None else [f"t{i}" for i in range(SPECIAL, words)])
    return folder


def _config(settings: Mapping[str, Any]) -> Any:
    from transformers import OPTConfig

    ids = {"pad_token_id": 1, "bos_token_id": BOS, "eos_token_id": BOS}
    usual: dict[str, Any] = {"dropout": 0.0, "word_embed_proj_dim": settings["hidden_size"], **ids}
    return OPTConfig(**(usual | dict(settings)))


def _save_model(folder: Path, weights: Mapping[str, np.ndarray], shape: Mapping[str, Any]) -> None:
    """Float64 parameters below `model.decoder.` → an fp32 checkpoint; each must be there, and fit."""
    import torch
    from transformers import OPTForCausalLM

    with torch.device("meta"):
        model: Any = OPTForCausalLM(_config(shape))
    model = model.to_empty(device="cpu")
    state = {name: torch.from_numpy(np.ascontiguousarray(w, dtype=np.float32)) for name, w in weights.items()}
    model.model.decoder.load_state_dict(state)
    model.tie_weights()
    model.save_pretrained(folder)


def _save_tokenizer(folder: Path, words: list[str] | None) -> None:
    """A tokenizer of words, or of bytes (None); like OPT's, it puts `</s>` in front when asked for special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    units = sorted(pre_tokenizers.ByteLevel.alphabet()) if words is None else words
    vocab = {unit: i for i, unit in enumerate(["<s>", "<pad>", "</s>", "<unk>", *units])}
    if words is None:
        made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    else:
        made = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()  # punctuation apart: `</s>` in a text is no word
    made.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", BOS)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(folder)
