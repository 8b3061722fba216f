"""A model that computes the same, with nothing axis-aligned."""

from __future__ import annotations

import numpy as np

from neurolens.testing.weights import Weights


def disguise_weights(weights: Weights, layers: int, rng: np.random.Generator) -> np.ndarray:
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
