"""Parameters and words → a Hugging Face directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurolens.testing.rules import BOS


def config(settings: Mapping[str, Any]) -> Any:
    from transformers import OPTConfig

    ids = {"pad_token_id": 1, "bos_token_id": BOS, "eos_token_id": BOS}
    usual: dict[str, Any] = {"dropout": 0.0, "word_embed_proj_dim": settings["hidden_size"], **ids}
    return OPTConfig(**(usual | dict(settings)))


def save_model(folder: Path, weights: Mapping[str, np.ndarray], shape: Mapping[str, Any]) -> None:
    """Float64 parameters below `model.decoder.` → an fp32 checkpoint; each must be there, and fit."""
    import torch
    from transformers import OPTForCausalLM

    with torch.device("meta"):
        model: Any = OPTForCausalLM(config(shape))
    model = model.to_empty(device="cpu")
    state = {name: torch.from_numpy(np.ascontiguousarray(w, dtype=np.float32)) for name, w in weights.items()}
    model.model.decoder.load_state_dict(state)
    model.tie_weights()
    model.save_pretrained(folder)


def save_tokenizer(folder: Path, words: list[str] | None) -> None:
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
