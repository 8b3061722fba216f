"""Inspection: one pass over a run that reads all of it and says what holds and what is damaged.

A chunk carries its checksum, but metadata carry none, a chunk that is missing reads as zeros, and checksums can be
right over wrong contents: so all that follows from something else in the run is computed again and compared.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from neurolens import NeurolensError, first_line
from neurolens.certificate import Certificate
from neurolens.checkpoint import Checkpoint
from neurolens.contrast import MOST_LABELS
from neurolens.corpus import Block, context_order
from neurolens.hub import cached_folder
from neurolens.parts import NEEDS, PARTS
from neurolens.schema import Expected, expected_arrays, table
from neurolens.store import PARTIAL, Store
from neurolens.tables import GRAMS
from neurolens.vocabulary import Vocabulary

CODECS = ["bytes", "zstd", "crc32c"]
_ATTRIBUTES = {
    "model": dict, "checkpoint": str, "tokenizer": str, "dtype": str, "device": str, "activation": str,
    "batch_sequences": int, "block_sequences": int, "threads": int, "versions": dict, "layers": list, "neurons": int,
    "label_names": list, "eos": int, "corpus": dict, "corpus_fingerprint": str, "corpus_notes": dict,
}  # fmt: skip
Undo = tuple[Any, ...]  # what mends something: a kind, and what of it; () for nothing


@dataclass(frozen=True)
class Damage:
    """Something of a run that is not as it was written.

    path      of the array, chunk or attributes, in the run
    found     what is there
    expected  what should be
    mends     the command that mends it
    undo      what `mend` does about it; empty for nothing
    """

    path: str
    found: str
    expected: str
    mends: str
    undo: Undo = ()


def find_checkpoint(model: str | Path, revision: str | None = None) -> Path | None:
    """The folder of a checkpoint that is at hand; None if it would have to be fetched."""
    return Path(model) if Path(model).is_dir() else cached_folder(str(model), revision)


class Inspection:
    """One pass over a run. Checks note damage by path; a law over an array that is damaged itself is not asked."""

    def __init__(self, store: Store, model: Path | None) -> None:
        self.store, self.model = store, model
        self.checks: list[str] = []
        self.damages: list[Damage] = []
        self.remarks: list[str] = []
        self.complete = False
        self.marks: dict[str, dict[str, Any]] = {}
        self.expected: dict[str, Expected] = {}
        self.done = np.zeros((0, 0), bool)  # (layer, block): marked
        self.unsound: set[str] = set()  # paths of arrays that laws leave alone
        self.active: dict[str, np.ndarray] = {}  # by path of a layer's bits, activations int64 (neuron,)

    def run(self) -> None:
        """Check after check; without attributes or the shape of the text nothing else can be told."""
        if not self._attributes():
            self.remarks.append("nothing else was checked: without the run's attributes and text it cannot be told")
            return
        self._marks()
        self._progress()
        self.expected = expected_arrays(
            self.store.attrs,
            self.store.shape,
            self.marks,
            vocabulary=(self.store.path / "vocabulary").is_dir(),
            most_labels=MOST_LABELS,
        )
        self._metadata()
        self._chunks()
        self._text()
        self._laws()
        self._certificate()
        self._checkpoint()
        self._foreign()

    # -- saying --------------------------------------------------------------------------------------------------

    def _damage(self, path: str, found: str, expected: str, undo: Undo = ()) -> None:
        self.unsound.add(path)
        run = shlex.quote(str(self.store.path))
        again = {
            "bits": ", then the same 'neurolens collect' command and 'neurolens analyze'",
            "layer": ", then the same 'neurolens collect' command and 'neurolens analyze'",
            "block": ", then the same 'neurolens collect' command",
            "part": f", then 'neurolens analyze {run}'",
            "certificate": f", then 'neurolens certify MODEL --run {run}'",
            "group": "",
        }
        mends = f"mend with 'neurolens verify {run} --mend'" + again[undo[0]] if undo else ""
        self.damages.append(Damage(path, found, expected, mends or "collect into another output", undo))

    def _remedy(self, name: str) -> Undo:
        """What mends an array as a whole."""
        owner = self.expected[name].owner if name in self.expected else ""
        if name.endswith("/active"):
            return ("layer", int(name.split("/")[1]))
        return ("part", owner) if owner in PARTS else ()

    def _holds(self, line: str, before: int) -> None:
        """A line for a check, if it found nothing since there were `before` damages."""
        if len(self.damages) == before:
            self.checks.append(line)

    def _sound(self, *names: str) -> bool:
        return all(name in self.expected and name not in self.unsound for name in names)

    # -- what the run says it is ---------------------------------------------------------------------------------

    def _attributes(self) -> bool:
        attrs, before = self.store.attrs, len(self.damages)
        for name, kind in _ATTRIBUTES.items():
            if not isinstance(attrs.get(name), kind) or isinstance(attrs.get(name), bool):
                found = f"{name} is {_brief(attrs[name])}" if name in attrs else f"no {name}"
                self._damage("zarr.json", found, f"{name}, a {kind.__name__}")
        if len(self.damages) == before:
            model, layers, names = attrs["model"], attrs["layers"], attrs["label_names"]
            config = model.get("config")
            vocab = config.get("vocab_size") if isinstance(config, dict) else None
            revision = model.get("revision")
            numbered = all(type(layer) is int and layer >= 0 for layer in layers)
            for wrong, found, expected in (
                (not layers or not numbered or sorted({*layers}) != layers, f"layers {_brief(layers)}", "numbers"),
                (not names or not all(isinstance(x, str) for x in names), f"label_names {_brief(names)}", "names"),
                (type(vocab) is not int or vocab < 1, f"vocab_size {_brief(vocab)}", "a number above 0"),
                (not isinstance(model.get("id"), str), f"model id {_brief(model.get('id'))}", "a folder or name"),
                (not isinstance(revision, str | None), f"revision {_brief(revision)}", "a commit, or null"),
                *(
                    (attrs[name] < 1, f"{name} {attrs[name]}", "a number above 0")
                    for name in ("neurons", "block_sequences", "batch_sequences")
                ),
            ):
                if wrong:
                    self._damage("zarr.json", found, expected)
        shape = (self.store.metadata("tokens") or {}).get("shape")
        if not isinstance(shape, list) or len(shape) != 2 or not all(type(n) is int and n > 0 for n in shape):
            self._damage("tokens", "no readable array", "the text, sequence by position")
        elif len(self.damages) == before:
            try:
                sequences, positions = self.store.shape
            except Exception as error:  # zarr's errors are of many kinds
                self._damage("tokens", f"no readable array ({first_line(error)})", "the text, sequence by position")
                return False
            per_block, batch = attrs["block_sequences"], attrs["batch_sequences"]
            if sequences > per_block and (per_block * positions % 64 or per_block % batch):
                found = f"blocks of {per_block} sequences of {positions} tokens, batches of {batch}"
                self._damage("zarr.json", found, "blocks of whole batches and of a multiple of 64 tokens")
            size = f"{len(attrs['layers'])} layers of {attrs['neurons']} neurons, {sequences * positions:,} tokens"
            self._holds(f"attributes: {size}, {len(attrs['label_names'])} labels", before)
        return len(self.damages) == before

    def _marks(self) -> None:
        """What was asked of each part, of those whose marks can be meant."""
        if not (self.store.path / "results").is_dir():
            self.remarks.append("not analysed")
            return
        before = len(self.damages)
        attributes = (self.store.metadata("results") or {}).get("attributes")
        parts = attributes.get("parts", {}) if isinstance(attributes, dict) else None
        sizes = {"dead": ("groups", "samples"), "ngrams": ("lengths",), "updates": ("k",)}
        if not isinstance(attributes, dict) or not isinstance(parts, dict):
            self._damage("results/zarr.json", "unreadable marks", "what was asked of each part", ("part", *PARTS))
            return
        for part in [*(part for part in PARTS if part in parts), *(set(parts) - set(PARTS))]:
            asked = parts[part]
            keys = sizes.get(part, ())
            whole = isinstance(asked, dict) and all(type(asked.get(key)) is int and asked[key] > 0 for key in keys)
            whole = whole and part in PARTS and (part != "ngrams" or asked["lengths"] <= len(GRAMS))
            if not whole:
                undo = ("part", part) if part in PARTS else ("part",)
                self._damage("results/zarr.json", f"a mark {part!r} with {_brief(asked)}", "what was asked", undo)
            elif missing := set(NEEDS[part]) - set(parts):
                found = f"{part} is marked and {', '.join(sorted(missing))} is not"
                self._damage("results/zarr.json", found, "marks of what a part needs", ("part", part))
            elif self.marks.keys() >= set(NEEDS[part]):  # else taken back with what it needs
                self.marks[part] = asked
        if parts and attributes.get("n_tokens") != self.store.n_tokens:
            found = f"results of {_brief(attributes.get('n_tokens'))} tokens"
            self._damage("results/zarr.json", found, f"{self.store.n_tokens}", ("part", *PARTS))
        if left := [part for part in PARTS if part not in self.marks]:
            self.remarks.append(f"not analysed for {', '.join(left)}")
        self._holds(f"marks of results: {', '.join(self.marks)}", before) if self.marks else None

    def _progress(self) -> None:
        """Which blocks are marked; what cannot be read counts as not."""
        layers, blocks = len(self.store.layers), len(self.store.blocks)
        self.done = np.zeros((layers, blocks), bool)
        if (self.store.metadata("progress") or {}).get("shape") == [layers, blocks]:
            for block in range(blocks):
                try:
                    if not self.store.has_chunk("progress", (0, block)):
                        raise NeurolensError("missing")
                    marks = self.store.read("progress", (slice(None), block))
                except NeurolensError:  # said where all chunks are read
                    continue
                if (marks > 1).any():
                    found = f"marks {', '.join(map(str, marks.tolist()))}"
                    self._damage(f"progress/c/0/{block}", found, "0 or 1", ("block", block))
                self.done[:, block] = marks == 1
        self.complete = bool(self.done.all())
        if not self.complete:
            self.remarks.append(
                f"incomplete: {self.done.sum()} of {self.done.size} blocks of layers are collected; the same "
                "'neurolens collect' command continues"
            )

    # -- arrays --------------------------------------------------------------------------------------------------

    def _metadata(self) -> None:
        """Every array and group that must be there is, and is what the schema says."""
        before, groups, lengths = len(self.damages), set[str](), dict[tuple[str, str], tuple[int, str]]()
        for name, expected in self.expected.items():
            groups |= {str(parent) for parent in Path(name).parents} - {"."}
            if name.endswith("/active") and self._dropped(name):
                continue
            metadata = self.store.metadata(name)
            if metadata is None:
                there = (self.store.path / name / "zarr.json").exists()
                self._damage(name, "unreadable zarr.json" if there else "missing", "an array", self._remedy(name))
                continue
            if wrong := _compare(metadata, expected, self._chunk_shape(name)):
                self._damage(name, *wrong, self._remedy(name))
                continue
            folder = name.rpartition("/")[0]
            for dim, wanted, size in zip(expected.dims, expected.shape, metadata["shape"], strict=True):
                if wanted is None:
                    first, other = lengths.setdefault((folder, dim), (size, name))
                    if size != first:
                        self._damage(name, f"{dim} of {size}", f"{first}, as {other}", self._remedy(name))
        for name in sorted(groups - {"results"}):
            if (self.store.metadata(name) or {}).get("node_type") != "group" and (self.store.path / name).is_dir():
                owners = {self.expected[each].owner for each in self.expected if each.startswith(f"{name}/")}
                attributes = name in ("results/by_layer", "results/overall") or name.startswith("results/positions/")
                undo = ("part", *sorted(owners)) if attributes else ("group", name)
                self._damage(f"{name}/zarr.json", "missing or unreadable", "a group", undo)
        self._holds(f"schema: {len(self.expected)} arrays with their axes, types and codecs", before)

    def _dropped(self, name: str) -> bool:
        """Whether a layer's bits were dropped, or lost, after they were counted: no damage to what is there."""
        gone = "dead" in self.marks and not (self.store.path / name).exists()
        if gone:
            self.unsound.add(name)
            self.remarks.append(f"{name}: the bits are gone, what was counted from them is there")
        return gone

    def _chunk_shape(self, name: str) -> list[int | None] | None:
        """What the chunks of some arrays must be, for a chunk to be of one block; None inside for any length."""
        if name == "progress":
            return [len(self.store.layers), 1]
        if not name.endswith("/active"):
            return None
        (sequences, positions), attrs = self.store.shape, self.store.attrs
        padded = -(-sequences * positions // 64) * 64
        return [None, min(attrs["block_sequences"] * positions, padded) // 8]

    def _chunks(self) -> None:
        """Read every chunk, which checks its crc32c; count bits on the way."""
        jobs = list(self._jobs())
        failed: dict[tuple[str, int | None], list[tuple[str, str]]] = {}
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            tqdm(total=len(jobs), unit="chunk", desc="verify", disable=None) as bar,
        ):
            for job, (error, counts) in zip(jobs, pool.map(lambda job: self._read(*job), jobs), strict=True):
                name, key, part, block = job
                bar.update()
                if error:
                    failed.setdefault((name, block), []).append(("/".join(map(str, key)), error))
                elif counts is not None:
                    if name not in self.active:
                        self.active[name] = np.zeros(self.store.neurons, np.int64)
                    self.active[name][part[0]] += counts
        for (name, block), errors in failed.items():
            undo = self._remedy(name)
            if name == "progress":
                undo = ("block", block)
            elif undo[:1] == ("layer",):
                undo = ("bits", undo[1], block)
            path, found = f"{name}/c/{errors[0][0]}", errors[0][1]
            more = f" (and {len(errors) - 1} chunks more)" if len(errors) > 1 else ""
            self.unsound.add(name)
            self._damage(path, found + more, "a chunk as it was written", undo)
        read = len(jobs) - sum(map(len, failed.values()))
        self._holds(f"chunks: all {read:,} read, their checksums hold", len(self.damages) - len(failed))

    def _jobs(self) -> Iterator[tuple[str, tuple[int, ...], tuple[slice, ...], int | None]]:
        """(path, chunk, what of the array it holds, its block) of chunks that must be there."""
        for name in self.expected:
            if not self._sound(name):
                continue
            metadata = self.store.metadata(name) or {}
            shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
            active = name.endswith("/active")
            for key in product(*(range(-(-size // step)) for size, step in zip(shape, chunk, strict=True))):
                if active and not self.done[self.store.layers.index(int(name.split("/")[1])), key[1]]:
                    continue  # what has no mark is done again
                part = tuple(
                    slice(i * step, min((i + 1) * step, size)) for i, size, step in zip(key, shape, chunk, strict=True)
                )
                yield name, key, part, key[1] if active or name == "progress" else None

    def _read(
        self, name: str, key: tuple[int, ...], part: tuple[slice, ...], block: int | None
    ) -> tuple[str, np.ndarray | None]:
        """(what is wrong with a chunk, "" for nothing; of bits the activations int64 `(neuron,)`)."""
        if not self.store.has_chunk(name, key):
            return "missing", None
        try:
            values = self.store.read(name, part)
        except NeurolensError as error:
            return first_line(error.__cause__ or error), None
        if not name.endswith("/active"):
            return "", None
        rest = self.store.n_tokens % 64
        if rest and block == len(self.store.blocks) - 1:
            last = np.ascontiguousarray(values[:, -8:]).view("<u8")
            if (last >> np.uint64(rest)).any():
                return "bits beyond the last token that are 1", None
        return "", np.bitwise_count(values).sum(1, dtype=np.int64)

    # -- text ----------------------------------------------------------------------------------------------------

    def _text(self) -> None:
        """Token ids, labels and documents against the fingerprint and one another; the order against the tokens."""
        store, attrs, before = self.store, self.store.attrs, len(self.damages)
        if self._sound("layer") and store.read("layer").tolist() != store.layers:
            self._damage("layer", _brief(store.read("layer").tolist()), f"{store.layers}, as the attributes")
        if self._sound("tokens", "label", "document_start", "document_source"):
            corpus, vocab_size = store.corpus(), attrs["model"]["config"]["vocab_size"]
            least, most = int(corpus.tokens.min()), int(corpus.tokens.max())
            if least < 0 or most >= vocab_size:
                self._damage("tokens", f"ids {least}…{most}", f"ids 0…{vocab_size - 1}")
            if (corpus.tokens[:, 0] != corpus.eos).any():
                self._damage("tokens", "sequences that do not begin with </s>", f"id {corpus.eos} in column 0")
            if corpus.label.max() >= len(corpus.label_names):
                self._damage("label", f"label {corpus.label.max()}", f"0…{len(corpus.label_names) - 1}")
            if (found := corpus.fingerprint()) != attrs["corpus_fingerprint"]:
                what = f"token ids, labels and label names with fingerprint {found[:12]}…"
                self._damage("tokens", what, f"{_brief(attrs['corpus_fingerprint'])}, as the attributes")
            start, flat = corpus.document_start, corpus.tokens.reshape(-1)
            inside = not len(start) or (start[0] > 0 and start[-1] < len(flat) and (np.diff(start) > 0).all())
            if not inside or (flat[start - 1] != corpus.eos).any():
                self._damage("document_start", "starts that no </s> stands before", "ascending starts of documents")
            if len(corpus.document_source) != len(start):
                found = f"sources of {len(corpus.document_source)} documents"
                self._damage("document_source", found, f"{len(start)}, as document_start")
            self._holds(f"text: fingerprint {attrs['corpus_fingerprint'][:12]}…, {len(start):,} documents", before)
        if self._sound("tokens", "order"):
            before, tokens, order = len(self.damages), store.read("tokens"), store.read("order")
            if wrong := [str(block.index) for block in store.blocks if not self._ordered(block, tokens, order)]:
                found = f"block {', '.join(wrong)} in another order"
                self._damage("order", found, "the context order of the tokens")
            self._holds(f"order: the context order of {len(store.blocks)} blocks", before)
        if self._sound("vocabulary/bytes", "vocabulary/start"):
            before = len(self.damages)
            try:
                real = len(Vocabulary.read(store).real)
                self._holds(f"vocabulary: {real:,} tokens", before)
            except NeurolensError:
                self._damage("vocabulary/start", "boundaries that do not divide the bytes", "ascending ones")

    def _ordered(self, block: Block, tokens: np.ndarray, order: np.ndarray) -> bool:
        inside = tokens[block.first_sequence : block.first_sequence + block.sequences]
        stretch = order[block.first_token : block.first_token + block.tokens]
        return np.array_equal(context_order(inside, self.store.attrs["eos"]) + block.first_token, stretch)

    # -- results -------------------------------------------------------------------------------------------------

    def _laws(self) -> None:
        """What must be so between bits, counts and results that are whole."""
        if not self.marks:
            return
        before, held = len(self.damages), 0
        for path, names, law, expected in self._stated():
            if self._sound(path, *names):
                held += 1
                if not law(*(self._value(name) for name in (path, *names))):
                    self._damage(path, "other values", expected, self._remedy(path))
        self._holds(f"results: {held:,} laws between bits, counts and results hold", before)

    def _value(self, name: str) -> np.ndarray:
        return self.active[name] if name in self.active else self.store.read(name)

    def _stated(self) -> Iterator[tuple[str, tuple[str, ...], Callable[..., bool], str]]:
        """(path of what is to blame, paths of what it is held against, law over their values, what was expected)."""
        column, layers, n = "results/neurons/", self.store.layers, self.store.n_tokens
        activations = f"{column}activations"
        for row, layer in enumerate(layers):
            bits, counts = f"layers/{layer:02d}/active", f"counts/layers/{layer:02d}/"
            by = [f"{counts}{name}" for name in ("position", "label", "group", "group_label")]
            by = [name for name in by if name in self.expected]
            sums = {name: _by_neuron(self.store.read(name)) for name in by if self._sound(name)}
            if self._sound(activations):
                sums[activations] = self.store.read(activations)[row]
            if self.done[row].all() and bits in self.active and self._sound(bits):
                sums[bits] = self.active[bits]
            votes = {one: sum(np.array_equal(sums[one], other) for other in sums.values()) for one in sums}
            agreed = max(votes, key=votes.__getitem__, default="")  # those that agree outvote one that does not
            for name in sums:
                right, total = np.array_equal(sums[name], sums[agreed]), f"as many for each neuron of layer {layer}"
                yield name, (), lambda _, r=right: r, f"{total} as {agreed if agreed != name else 'elsewhere'}"
            if len(by) > 3:
                for axis, name in ((1, by[1]), (2, by[2])):
                    text = f"the sums of group_label of layer {layer}"
                    yield name, (by[3],), lambda c, b, i=axis: np.array_equal(c, b.sum(i)), text
            triggers, updates = f"results/layers/{layer:02d}/triggers/", f"results/layers/{layer:02d}/updates/"
            ascending = "neurons of the layer, ascending"
            yield f"{triggers}neuron", (), self._rows, ascending
            yield f"{triggers}on", (f"{triggers}total",), lambda o, t: bool(((o > 0) & (o <= t)).all()), "1 … total"
            yield f"{updates}neuron", (), lambda v: self._rows(v) and bool((np.diff(v) > 0).all()), ascending
        total = "counts/total/"
        for name in ("position", "label", "group", "group_label"):
            yield f"{total}{name}", (), lambda t: int(t.sum()) == n, f"{n} tokens in all"
        yield f"{total}label", ("label",), self._label_totals, "tokens of each label"
        yield f"{total}group_label", (f"{total}label",), lambda b, t: np.array_equal(b.sum(0), t), "those of labels"
        yield f"{column}frequency", (activations,), lambda f, a: np.array_equal(f, a / n), "activations / n"
        yield f"{column}dead", (activations,), lambda d, a: np.array_equal(d, a == 0), "active on no token"
        yield "results/contexts", (), lambda c: bool(((c >= -1) & (c < n)).all()), f"indices of {n} tokens, or −1"
        for name, expected in self.expected.items():
            if name.endswith("/layer") and expected.dims == ("layer",):
                yield name, (), lambda v: v.tolist() == layers, f"layers {_brief(layers)}"
        rows = "results/positions/"
        flagged = lambda layer, neuron, flags: np.array_equal(  # noqa: E731
            np.stack([layer, neuron]), np.stack([np.array(layers)[flags.nonzero()[0]], flags.nonzero()[1]])
        )
        yield f"{rows}layer", (f"{rows}neuron", f"{column}positional"), flagged, "the positional neurons"
        count = f"{rows}by_layer/count"
        yield f"{rows}overall/count", (count,), lambda o, c: np.array_equal(o, c.sum(-1)), "the sum over layers"
        span = lambda r, rows: not len(r) or (r[0] >= 0 and r[-1] < len(rows) and (np.diff(r) >= 0).all())  # noqa: E731
        yield f"{rows}ranges/row", (f"{rows}neuron",), span, "rows of the table, ascending"

    def _rows(self, neurons: np.ndarray) -> bool:
        """Whether neurons ascend within a layer; one may stand several times."""
        ascends = bool((np.diff(neurons) >= 0).all())
        return not len(neurons) or (ascends and neurons[0] >= 0 and neurons[-1] < self.store.neurons)

    def _label_totals(self, total: np.ndarray, label: np.ndarray) -> bool:
        return np.array_equal(total, np.bincount(label, minlength=len(total)) * self.store.shape[1])

    def _certificate(self) -> None:
        if not (self.store.path / "certificate").is_dir():
            self.remarks.append("not certified")
            return
        before, known = len(self.damages), self.store.attrs
        values = (self.store.metadata("certificate") or {}).get("attributes")
        try:
            if values == {}:  # stopped while it was written
                self.remarks.append("not certified")
                return
            if not isinstance(values, dict):
                raise NeurolensError("no readable certificate")
            certificate = Certificate.from_dict(values)
            for name in ("checkpoint", "corpus_fingerprint", "dtype"):
                if getattr(certificate, name) != known[name]:
                    raise NeurolensError(f"{name} {_brief(getattr(certificate, name))}")
            if [layer.layer for layer in certificate.layers] != self.store.layers:
                raise NeurolensError("other layers")
        except NeurolensError as error:
            self._damage("certificate", first_line(error), "the certificate of this run", ("certificate",))
        self._holds("certificate: readable, of this run", before)

    def _checkpoint(self) -> None:
        """The model's files, if they are at hand, against the run's fingerprints."""
        known, before = self.store.attrs, len(self.damages)
        name, revision = known["model"]["id"], known["model"].get("revision")
        folder = self.model or find_checkpoint(name, revision)
        if folder is None:
            self.remarks.append(f"the checkpoint {name} is not at hand and was not compared; give it with --model")
            return
        try:
            checkpoint = Checkpoint(folder)
            found = {"checkpoint": checkpoint.fingerprint(), "tokenizer": checkpoint.tokenizer_fingerprint()}
        except (NeurolensError, OSError) as error:
            found = {"checkpoint": first_line(error), "tokenizer": known["tokenizer"]}
        for kind in ("checkpoint", "tokenizer"):
            if found[kind] != known[kind]:
                mends = "give the one the run was made with, with --model; the run itself is not touched"
                wanted = f"the run's {kind}, {_brief(known[kind])}"
                self.damages.append(Damage(str(folder), f"{kind} {_brief(found[kind])}", wanted, mends))
        self._holds(f"checkpoint: {folder} has the fingerprints of the run", before)

    # -- what does not belong there ------------------------------------------------------------------------------

    def _foreign(self) -> None:
        """Files that no array of this schema has, and what stops have left. None of them harms."""
        path = self.store.path
        everything = {name for name, *_ in table(self.store.layers, len(GRAMS), {"run", "vocabulary", *PARTS})}
        groups = {"", "certificate", *(str(each) for name in everything for each in Path(name).parents)}
        foreign: list[str] = []
        partial = 0
        for folder, _, files in os.walk(path):
            name = Path(folder).relative_to(path).as_posix()
            for file in files:
                if Path(file).match(PARTIAL):
                    partial += 1
                elif not (file == "zarr.json" and (name in everything or name in groups)):
                    array, _, key = f"{name}/{file}".partition("/c/")
                    if array not in everything or not self._on_grid(array, key):
                        foreign.append(f"{name}/{file}".removeprefix("./"))
        for file in foreign:
            self.remarks.append(f"{file}: a file that is not neurolens'; it may be removed")
        if partial:
            files = f"{partial} file{'s'[: partial > 1]} {PARTIAL}"
            self.remarks.append(f"{files}: left by a write that was stopped; the next collect or analyze removes them")
        making = path.with_name(path.name + ".making")
        if making.exists():
            self.remarks.append(f"{making}: left by a collect that was stopped; it may be removed")

    def _on_grid(self, name: str, key: str) -> bool:
        """Whether an array has a chunk of that key, as far as its metadata can be read."""
        metadata = self.store.metadata(name) if self._sound(name) else None
        if metadata is None:
            return True
        steps = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [-(-size // step) for size, step in zip(metadata["shape"], steps, strict=True)]
        numbers = key.split("/")
        return len(numbers) == len(counts) and all(
            number.isdecimal() and str(int(number)) == number and int(number) < count
            for number, count in zip(numbers, counts, strict=True)
        )


def _compare(metadata: Mapping[str, Any], expected: Expected, chunk: list[int | None] | None) -> tuple[str, str] | None:
    """(found, expected) of the first thing in which an array's metadata are not as they should be."""

    def fits(values: Any, wanted: Iterable[int | None]) -> bool:
        listed, wanted = isinstance(values, list), list(wanted)
        return (
            listed
            and len(values) == len(wanted)
            and all(type(n) is int and n >= 0 and m in (None, n) for n, m in zip(values, wanted, strict=True))
        )

    def get(*keys: str) -> Any:
        value: Any = metadata
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    codecs, steps = get("codecs"), get("chunk_grid", "configuration", "chunk_shape")
    named = [codec.get("name") for codec in codecs if isinstance(codec, dict)] if isinstance(codecs, list) else None
    little = named == CODECS and (codecs[0].get("configuration") or {}).get("endian", "little") == "little"
    for right, found, wanted in (
        (get("node_type") == "array", get("node_type"), "an array"),
        (fits(get("shape"), expected.shape), get("shape"), f"shape {_shape(expected)}"),
        (get("data_type") in expected.types, get("data_type"), " or ".join(expected.types)),
        (get("dimension_names") == [*expected.dims], get("dimension_names"), f"axes {', '.join(expected.dims)}"),
        (little, named, f"codecs {', '.join(CODECS)}, little endian"),
        (get("fill_value") == 0, get("fill_value"), "fill value 0"),
        (get("chunk_grid", "name") == "regular", get("chunk_grid", "name"), "a regular grid"),
        (
            get("chunk_key_encoding", "configuration", "separator") in (None, "/"),
            get("chunk_key_encoding"),
            "chunks by /",
        ),
        (fits(steps, chunk or [None] * len(expected.dims)) and 0 not in steps, steps, f"chunks {chunk or 'above 0'}"),
    ):
        if not right:
            return _brief(found), wanted
    return None


def _shape(expected: Expected) -> str:
    return " × ".join(
        dim if size is None else str(size) for dim, size in zip(expected.dims, expected.shape, strict=True)
    )


def _by_neuron(counts: np.ndarray) -> np.ndarray:
    """Counts `(neuron, …)` summed to int64 `(neuron,)`."""
    return counts.reshape(len(counts), -1).sum(1, dtype=np.int64)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"
