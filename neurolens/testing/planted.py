"""A model whose every neuron is known, and all that is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from neurolens.testing.checkpoint import save_model, save_tokenizer
from neurolens.testing.disguise import disguise_weights
from neurolens.testing.draft import Draft
from neurolens.testing.ngrams import plan_ngrams
from neurolens.testing.positions import plan_positions
from neurolens.testing.rules import BOS, SPECIAL, PlantedNeuron
from neurolens.testing.text import LABELS, construct_text
from neurolens.testing.tokens import plan_dead, plan_domains, plan_others, plan_tokens
from neurolens.testing.truth import Ngrams, Verdict, mean_projection
from neurolens.testing.weights import build_weights

LENGTHS = {"unigram": 1, "bigram": 2, "trigram": 3}


@dataclass(frozen=True, eq=False)
class Planted:
    """A checkpoint, the corpus it was planted for, and all the answers.

    folder       the checkpoint, a Hugging Face directory
    neurons      every neuron of every layer, by layer, then neuron
    tokens       int32 `(S, T)`, BOS in column 0
    label        uint16 `(S,)`: which label each sequence has, an index into `label_names`
    label_names  in alphabetical order
    projection   float32 `(layers, neurons, V)`: each neuron's value vector times the unembedding row of each token of
                 the tokenizer, specials included (raw). The model has `padding` rows more, which are no tokens

    Counts are exact over the whole of `tokens`, in any order of its sequences. What `neurons` says is why a neuron
    was planted; `truth` and `verdict` say all that is true of it by the paper's rules: a detector of one token is
    often one of bigrams too.
    """

    folder: Path
    neurons: tuple[PlantedNeuron, ...]
    tokens: np.ndarray
    label: np.ndarray
    label_names: tuple[str, ...]
    projection: np.ndarray

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return len(self.projection)

    def of(self, kind: str, layer: int | None = None) -> list[PlantedNeuron]:
        """The neurons planted for a kind, in one layer or in all."""
        return [n for n in self.neurons if n.kind == kind and layer in (None, n.layer)]

    def near_misses(self, rule: str, layer: int | None = None, *, n: int | None = None) -> list[PlantedNeuron]:
        """The neurons that fail only this rule (see `PlantedNeuron`), in one layer or in all; `n`: for n-grams of
        this length only (1, 2, 3; 0 for rules that are not about n-grams)."""
        found = [neuron for neuron in self.neurons if neuron.misses == rule and layer in (None, neuron.layer)]
        return [neuron for neuron in found if n in (None, neuron.n)]

    def active(self, layer: int, tokens: np.ndarray | None = None) -> np.ndarray:
        """Where each neuron of a layer is active, by its rule: bool `(neurons, S·T)`; for other `tokens` if given."""
        tokens = self.tokens if tokens is None else tokens
        return np.stack([n.rule.active(tokens).ravel() for n in self.neurons if n.layer == layer])

    def verdict(self, neuron: PlantedNeuron, n: int = 1) -> Verdict:
        """What the paper's rules say of a neuron for n-grams of length 1, 2 or 3: covering number, covering set, …"""
        return self._verdicts[n][neuron.layer * self.projection.shape[1] + neuron.neuron]

    def truth(self) -> dict[str, np.ndarray]:
        """What is true of every neuron, by column of `results/neurons`; each `(layers, neurons)`.

        `activations`, `activations_on_text` (on anything but `</s>`) int64; `dead`, `dead_but_bos` bool; for each of
        unigram, bigram and trigram `…s_95` (covering number) int64, `…_detector` and `…_detector_supported` bool;
        `positional` bool, `position_type` and `position_strength` str (empty where not positional);
        `suppresses_triggers` int8 (1 yes, 0 no, −1 no token detector), `trigger_projection` and
        `trigger_projection_centred` float64 (activation-weighted means over the covered tokens, raw and minus the
        mean over the vocabulary; NaN where there is no token detector).

        Counted from the bits of the rules, by code that shares nothing with the analyses. The positional columns are
        what was planted.
        """
        shape = self.projection.shape[:2]
        text = (self.tokens != BOS).ravel()
        bits = self._bits.reshape(-1, self.tokens.size)
        activations, on_text = bits.sum(1), bits[:, text].sum(1)
        columns: dict[str, np.ndarray] = {
            "activations": activations,
            "activations_on_text": on_text,
            "dead": activations == 0,
            "dead_but_bos": (activations > 0) & (on_text == 0),
        }
        for name, n in LENGTHS.items():
            columns[f"{name}s_95"] = np.array([v.number for v in self._verdicts[n]])
            columns[f"{name}_detector"] = np.array([v.detector for v in self._verdicts[n]])
            columns[f"{name}_detector_supported"] = np.array([v.supported for v in self._verdicts[n]])
        columns["positional"] = np.array([n.position_type != "" for n in self.neurons])
        columns["position_type"] = np.array([n.position_type for n in self.neurons])
        columns["position_strength"] = np.array([n.position_strength for n in self.neurons])
        flat = self.projection.reshape(-1, self.projection.shape[2]).astype(np.float64)
        for name, rows in (("", flat), ("_centred", flat - flat.mean(1, keepdims=True))):
            means = [mean_projection(v, row) for v, row in zip(self._verdicts[1], rows, strict=True)]
            columns[f"trigger_projection{name}"] = np.array(means)
        mean = columns["trigger_projection"]
        columns["suppresses_triggers"] = np.where(np.isnan(mean), -1, mean < 0).astype(np.int8)
        return {name: column.reshape(shape) for name, column in columns.items()}

    def dead_in(self, label: int) -> np.ndarray:
        """Which neurons are never active in the sequences of a label, bool `(layers, neurons)`."""
        rows = self._bits.reshape(*self.projection.shape[:2], *self.tokens.shape)
        return np.logical_not(rows[:, :, self.label == label].any((2, 3)))

    def texts(self, label: int | None = None) -> list[str]:
        """Documents that give `tokens` back when they are tokenised (without special tokens), joined by one `</s>`
        each and cut into sequences of T − 1, each with BOS in front. Documents run on from a sequence to the next.
        With a `label`: the same for the sequences of this label alone."""
        stream = (self.tokens if label is None else self.tokens[self.label == label])[:, 1:].ravel()
        return [" ".join(f"t{t}" for t in part if t != BOS) for part in np.split(stream, np.flatnonzero(stream == BOS))]

    def labelled_texts(self) -> list[tuple[str, str]]:
        """(text, label) of documents, label by label. A packer that keeps labels apart, and joins and cuts documents
        as `texts` says, gives the sequences of each label back, in order; how it mixes the labels is its own."""
        return [(text, name) for i, name in enumerate(self.label_names) for text in self.texts(i)]

    def write_jsonl(self, path: str | Path, *, labelled: bool = True) -> Path:
        """Write the documents as lines `{"text": …, "label": …}`, or `{"text": …}` of all in one; returns the path."""
        records: Sequence[dict[str, str]] = [{"text": text} for text in self.texts()]
        if labelled:
            records = [{"text": text, "label": name} for text, name in self.labelled_texts()]
        path = Path(path)
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return path

    @cached_property
    def _bits(self) -> np.ndarray:
        return np.stack([self.active(layer) for layer in range(self.layers)])

    @cached_property
    def _verdicts(self) -> dict[int, list[Verdict]]:
        """By length of n-grams, those of `neurons`, in order."""
        bits = self._bits.reshape(-1, self.tokens.size)
        corpora = {n: Ngrams(self.tokens, n) for n in LENGTHS.values()}
        return {n: [ngrams.judge(row) for row in bits] for n, ngrams in corpora.items()}


def planted_opt(
    folder: str | Path,
    *,
    vocab_size: int = 64,
    padding: int = 8,
    positions: int = 64,
    layers: int = 3,
    neurons: int = 128,
    sequences: int = 144,
    disguise: bool = False,
    seed: int = 0,
) -> Planted:
    """Write an OPT checkpoint with known neurons into `folder`, and say what is known.

    Every layer holds `neurons` neurons:
    - dead ones; some active on `</s>` only (anywhere, in column 0, between documents);
    - detectors of 1 to 5 tokens, half of which are active on `</s>` too; of 1 to 52 bigrams or trigrams, some of which
      are active where there is no n-gram too. Among those of each length some with rates, coverages and numbers of
      activations just at the limit, and with ties in the covering set;
    - near misses of each of these rules (see `PlantedNeuron.misses`);
    - positional ones of each type, strong and weak;
    - some active in sequences of one label only, or of all but one;
    - some that are always, half of the time or on many tokens active, by the token itself or by the previous ones.
    Some of them suppress or promote given tokens, their triggers or others; the other value vectors are random.

    The corpus has `sequences` × `positions` tokens, several documents to a sequence, three labels in turn, and each
    word of the vocabulary. The tokenizer has `vocab_size` ids; the embedding has `padding` rows more, so large that
    they would come first and last in any ranking (in pairs of opposite sign: give an even number).

    `disguise` changes no output of the model: it rotates the residual stream (the all-ones direction stays, so that
    LayerNorm commutes), gives the LayerNorms random gains and biases that the next weights undo, and shuffles the
    neurons. Nothing is axis-aligned then. The bits are exact with any batch size, with eager and sdpa attention, in
    fp32 and fp16. Stored in fp32.

    Raises ValueError if the sizes are too small for all that is planted.
    """
    folder = Path(folder)
    text = construct_text(vocab_size, positions, sequences, np.random.default_rng([seed, 0]))
    plans = []
    for layer in range(layers):
        draft = Draft(text, vocab_size, np.random.default_rng([seed, 1, layer]))
        plan_dead(draft)
        plan_tokens(draft)
        plan_ngrams(draft, 2)
        plan_ngrams(draft, 3)
        plan_positions(draft)
        plan_domains(draft)
        plan_others(draft, neurons)
        plans.append(draft.neurons)
    weights, shape, projection = build_weights(plans, vocab_size, padding, positions, np.random.default_rng([seed, 2]))
    order = np.tile(np.arange(neurons), (layers, 1))
    if disguise:
        order = disguise_weights(weights, layers, np.random.default_rng([seed, 3]))
    save_model(folder, weights, shape)
    save_tokenizer(folder, [f"t{i}" for i in range(SPECIAL, vocab_size)])
    planted = [replace(plans[i][n], layer=i, neuron=at) for i in range(layers) for at, n in enumerate(order[i])]
    projection = np.take_along_axis(projection, order[:, :, None], axis=1).astype(np.float32)
    return Planted(folder, tuple(planted), text.tokens, text.label, LABELS, projection)
