"""Models with known answers, for anyone who writes an analysis.

`planted_opt` writes an OPT checkpoint whose weights are built by hand, so that for every neuron of every layer it
is known, exactly and from the token ids alone, where it is active. `random_opt` writes a checkpoint of a given or
published shape with random weights: nothing is known about it, but it has the size and the quirks of the real one.
Both are ordinary Hugging Face directories (config, safetensors, tokenizer): every tool reads them as any model.

    >>> planted = planted_opt(folder)
    >>> planted.tokens.shape, len(planted.neurons)
    ((144, 64), 384)
    >>> neuron = planted.of("trigram_detector", layer=1)[0]
    >>> [len(ngram) for ngram in neuron.triggers]  # what it was planted for: token ids, in reading order
    [3]
    >>> truth = planted.truth()["trigram_detector"]  # what is true, (layers, neurons)
    >>> truth.shape, bool(truth[1, neuron.neuron])
    ((3, 128), True)
    >>> miss = planted.near_misses("rate", layer=1, n=3)[0]  # active on 94% of its trigram
    >>> miss.kind, planted.verdict(miss, n=3).number, bool(truth[1, miss.neuron])
    ('other', 1, False)

An analysis is right if it finds what `truth()` says from the bits that a model computes on `tokens` (or on the
documents of `texts()`, `labelled_texts()`, `write_jsonl(path)`, from which a packer makes them); it finds nothing of
a near miss.

How a planted neuron works. The residual stream is divided into subspaces: one-hot vectors of the token (`now`),
the previous one (`before`), the one before that (`before2`) and the position (`at`); `out`, to which every FFN and
every attention after the copying writes and from which no planted neuron reads; `rest`, which is always 0.
Two attention heads of layer 0 copy the previous tokens. A neuron gives points to what stands there and is active
where they reach what it needs (`Rule`). Its row of W_in holds the points; minus the threshold stands on all of
`at`, whose one-hot always sums to 1, and not in fc1.bias: so the LayerNorm's σ, which differs from token to token,
scales the whole pre-activation and never changes its sign. Rows sum to 0 (what is missing stands on `rest`), so
that the LayerNorm's mean does not matter either. Points are integers and the threshold lies half-way between two:
no pre-activation comes near 0, dead neurons included, and rounding flips no bit.

New kinds of neurons are new lines in `tokens`, `ngrams` or `positions`: a rule, and what it was planted for.
"""

from neurolens.testing.planted import Planted, planted_opt
from neurolens.testing.rules import BOS, SPECIAL, UNK, PlantedNeuron, Rule
from neurolens.testing.shapes import OPT_SHAPES, random_opt
from neurolens.testing.text import COUNTS, LABELS, NGRAM_COUNTS
from neurolens.testing.truth import Verdict

__all__ = [
    "BOS",
    "COUNTS",
    "LABELS",
    "NGRAM_COUNTS",
    "OPT_SHAPES",
    "SPECIAL",
    "UNK",
    "Planted",
    "PlantedNeuron",
    "Rule",
    "Verdict",
    "planted_opt",
    "random_opt",
]
