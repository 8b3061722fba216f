"""Train the embedded model: an OPT of 4.6M parameters on text that every Python installation has.

Plain next-token loss and AdamW; nothing plants a neuron. The shape is chosen so that the paper's phenomena
can show at all in a model of 9.3 MB: the FFN is 32 times as wide as the residual stream (the paper's models:
4 times) and 4 times as wide as the vocabulary, because dead neurons and detectors are a matter of having neurons
to spare (docs/decisions/0005: what was tried).

    python -m neurolens.demo.train WORK            train in the folder WORK (again: continues)
    python -m neurolens.demo.train WORK --export DIR   write the newest state as an HF checkpoint (fp16)

Everything random is drawn from (seed, step), so a run that was stopped and continued sees the same batches
as one that was not. The learning rate is constant after a short warm-up; with `decay` it falls linearly over the
last share of the steps (warm-up, stable, decay): the number of steps can be changed until then. Here it does not
fall: while it does, and with many more steps, detectors dissolve (docs/decisions/0005).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

from neurolens.demo.text import LABELS, documents

EOS = 2  # OPT: </s> is begin-of-sentence, separator and end at once
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


@dataclass(frozen=True)
class Recipe:
    """What is trained and how. Every field is written into the checkpoint."""

    vocab_size: int = 1024
    hidden_size: int = 128
    ffn_dim: int = 4096
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    positions: int = 256
    batch: int = 8
    steps: int = 750
    lr: float = 3e-3
    warmup: int = 200
    decay: float = 0.0  # the last share of the steps, over which the rate falls to 2% of its peak
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0
    shares: tuple[float, float, float] = (0.42, 0.33, 0.25)  # code, prose, math
    seed: int = 0


def train_tokenizer(folder: Path, vocab_size: int) -> None:
    """A byte-level BPE with OPT's special tokens and ids, trained on as many characters of each label."""
    texts: dict[str, list[str]] = {label: [] for label in LABELS}
    for text, label in documents("train"):
        texts[label].append(text)
    least = min(sum(map(len, group)) for group in texts.values())
    sample = ["".join(group)[: 2 * least] for group in texts.values()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        sample,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", pair="</s> $A </s> $B", special_tokens=[("</s>", EOS)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)


def encode(folder: Path, split: str) -> dict[str, np.ndarray]:
    """Token ids (tokens,) uint16 of every label: documents, each followed by `</s>`."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    parts: dict[str, list[int]] = {label: [] for label in LABELS}
    math_documents = 6000 if split == "train" else 600
    for text, label in documents(split, math_documents=math_documents):  # type: ignore[arg-type]
        parts[label] += [*tokenizer.encode(text, add_special_tokens=False).ids, EOS]
    return {label: np.array(ids, dtype=np.uint16) for label, ids in parts.items()}


def draw(streams: dict[str, np.ndarray], recipe: Recipe, step: int) -> torch.Tensor:
    """The batch (batch, positions) int64 of `step`: BOS, then a stretch of one label's stream."""
    rng = np.random.default_rng([recipe.seed, step])
    labels = rng.choice(len(LABELS), size=recipe.batch, p=recipe.shares)
    rows = np.full((recipe.batch, recipe.positions), EOS, dtype=np.int64)
    for row, label in zip(rows, labels, strict=True):
        stream = streams[LABELS[label]]
        start = int(rng.integers(len(stream) - recipe.positions))
        row[1:] = stream[start : start + recipe.positions - 1]
    return torch.from_numpy(rows)


def rate(recipe: Recipe, step: int) -> float:
    """Learning rate at `step`: warm-up, constant, then linear decay to 2% of the peak if there is any."""
    left = (recipe.steps - step) / max(1.0, recipe.decay * recipe.steps)
    return recipe.lr * min(1.0, (step + 1) / recipe.warmup, max(0.02, left))


def new_model(recipe: Recipe) -> OPTForCausalLM:
    """A freshly initialised OPT of the recipe's shape."""
    torch.manual_seed(recipe.seed)
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=recipe.vocab_size,
            hidden_size=recipe.hidden_size,
            word_embed_proj_dim=recipe.hidden_size,
            ffn_dim=recipe.ffn_dim,
            num_hidden_layers=recipe.num_hidden_layers,
            num_attention_heads=recipe.num_attention_heads,
            max_position_embeddings=recipe.positions,
            dropout=0.0,
            attention_dropout=0.0,
            bos_token_id=EOS,
            eos_token_id=EOS,
            pad_token_id=1,
        )
    )


def held_out_loss(model: OPTForCausalLM, held: dict[str, np.ndarray], positions: int) -> dict[str, float]:
    """Mean loss in nats a token of each label, on its first 32 full-length held-out sequences."""
    losses = {}
    model.eval()
    with torch.inference_mode():
        for label, stream in held.items():
            count = min(32, len(stream) // (positions - 1))
            rows = np.full((count, positions), EOS, dtype=np.int64)
            rows[:, 1:] = stream[: count * (positions - 1)].reshape(count, -1)
            ids = torch.from_numpy(rows)
            losses[label] = round(float(model(ids, labels=ids).loss), 4)
    model.train()
    return losses


def train(work: Path, recipe: Recipe, *, keep: tuple[int, ...], save_every: int, compiled: bool) -> None:
    """Train in `work`, from its newest state if there is one; logs to log.jsonl, keeps the steps in `keep`."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tokenizer.json").exists():
        train_tokenizer(work, recipe.vocab_size)
    streams, held = encode(work, "train"), encode(work, "held")
    print({label: len(stream) for label, stream in streams.items()}, flush=True)
    model = new_model(recipe)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.lr,
        betas=recipe.betas,
        fused=True,
    )
    first = 0
    state = work / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]

    def save(step: int, path: Path) -> None:
        part = path.with_suffix(".part")
        torch.save(
            {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "recipe": json.dumps(asdict(recipe)),
            },
            part,
        )
        part.rename(path)

    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        return model(ids, labels=ids).loss

    if first == 0 in keep:
        save(0, work / "step0.pt")
    if compiled:
        loss_of = torch.compile(loss_of)
    started, running = time.monotonic(), float("nan")
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(recipe, step)
        loss = loss_of(draw(streams, recipe, step))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if done % 100 == 0:
            entry = {"step": done, "loss": round(running, 4), "seconds": round(time.monotonic() - started)}
            if done % 500 == 0 or done == recipe.steps:
                entry["held"] = held_out_loss(model, held, recipe.positions)
            print(json.dumps(entry), flush=True)
            with (work / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(entry) + "\n")
        if done in keep:
            save(done, work / f"step{done}.pt")
        if done % save_every == 0 or done == recipe.steps:
            save(done, state)


def export(state: Path, tokenizer: Path, target: Path) -> None:
    """Write a saved state as an HF checkpoint: config, fp16 safetensors, tokenizer, and how it was made."""
    saved = torch.load(state, weights_only=True)
    fields: dict[str, Any] = json.loads(saved["recipe"])
    as_tuples: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    recipe = Recipe(**as_tuples)
    model = new_model(recipe)
    model.load_state_dict(saved["model"])
    model.half().save_pretrained(target, safe_serialization=True)
    PreTrainedTokenizerFast.from_pretrained(tokenizer).save_pretrained(target)
    # transformers 5 writes a class that 4 does not know; both read this one
    names = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "</s>", "eos_token": "</s>"}
    names |= {"pad_token": "<pad>", "unk_token": "<unk>"}
    (target / "tokenizer_config.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    made = {"step": saved["step"], "tokens": saved["step"] * recipe.batch * recipe.positions, "recipe": asdict(recipe)}
    (target / "training.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line, train or export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    parser.add_argument("--keep", type=int, nargs="*", default=[0, 250, 500], help="steps whose states stay")
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--compile", action="store_true", help="torch.compile: 1.6 times as fast, needs a C compiler")
    parser.add_argument("--export", type=Path, metavar="DIR")
    parser.add_argument("--state", default="state.pt", help="the state in WORK that --export writes")
    options = parser.parse_args()
    if options.export:
        export(options.work / options.state, options.work, options.export)
        return
    recipe = Recipe(steps=options.steps, lr=options.lr)
    train(options.work, recipe, keep=tuple(options.keep), save_every=options.save_every, compiled=options.compile)


if __name__ == "__main__":
    main()
