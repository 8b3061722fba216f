"""Bit order, packing and transposing, against arithmetic on single bits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens.bits import IN_CACHE, pack, pack_positive, pack_tensor, transpose, unpack, words
from neurolens.kernels import count_bits

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

SIZES = st.integers(0, 40)
DENSITIES = st.sampled_from([0.0, 0.02, 0.5, 0.97, 1.0])


def coins(*shape: int, density: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < density


def bytes_of(active: np.ndarray) -> np.ndarray:
    """Bit i of a row into byte i // 8 with value 2^(i mod 8), added up."""
    rows, count = active.shape
    spare = np.zeros((rows, -count % 8), int)
    return np.concatenate([active, spare], axis=1).reshape(rows, -(-count // 8), 8) @ 2 ** np.arange(8)


def test_the_oracle_by_hand():
    active = np.zeros((2, 10), bool)
    active[1, [0, 3, 9]] = True
    assert bytes_of(active).tolist() == [[0, 0], [9, 2]]


def bits_of(packed: np.ndarray, count: int) -> list[list[bool]]:
    return [[bool(int(row[i // 8]) // 2 ** (i % 8) % 2) for i in range(count)] for row in packed]


@given(rows=SIZES, count=st.integers(1, 70), density=DENSITIES, seed=st.integers(0, 99))
def test_packing_puts_bit_i_into_byte_i_over_8(rows, count, density, seed):
    active = coins(rows, count, density=density, seed=seed)
    packed = pack(active)
    assert packed.dtype == np.uint8
    assert packed.tolist() == bytes_of(active).tolist()
    assert bits_of(packed, count) == active.tolist()


@given(shape=st.lists(st.integers(1, 5), max_size=2), count=st.integers(1, 70), seed=st.integers(0, 99))
def test_unpack_undoes_pack(shape, count, seed):
    active = coins(*shape, count, seed=seed)
    back = unpack(pack(active), count)
    assert back.dtype == bool and back.shape == active.shape
    assert (back == active).all()


@given(rows=SIZES, width=st.integers(1, 9), seed=st.integers(0, 99))
def test_pack_undoes_unpack(rows, width, seed):
    packed = np.random.default_rng(seed).integers(0, 256, (rows, width), dtype=np.uint8)
    assert (pack(unpack(packed, width * 8)) == packed).all()


class Elsewhere:
    """A torch CPU tensor that says it lies on a GPU: what is not brought over with `cpu()` cannot be read."""

    device = SimpleNamespace(type="cuda")

    def __init__(self, tensor: torch.Tensor, log: list[Any]) -> None:
        self._tensor, self._log = tensor, log

    def __getattr__(self, name: str) -> Any:
        if name not in ("shape", "dtype", "contiguous", "view", "to", "new_empty", "long", "byte"):
            raise AttributeError(f"a tensor on a GPU has no {name} for the host")
        found: Any = getattr(self._tensor, name)
        if name in ("shape", "dtype"):
            return found

        def call(*args: Any, **kwargs: Any) -> Elsewhere:
            self._log.append(name)
            return Elsewhere(found(*args, **kwargs), self._log)

        return call

    def __mul__(self, factor: int) -> Elsewhere:
        self._log.append("multiply")
        return Elsewhere(self._tensor * factor, self._log)

    def __rshift__(self, places: int) -> Elsewhere:
        self._log.append("shift")
        return Elsewhere(self._tensor >> places, self._log)

    def __gt__(self, least: int) -> Elsewhere:
        self._log.append("compare")
        return Elsewhere(self._tensor > least, self._log)

    def cpu(self) -> torch.Tensor:
        self._log.append(("cpu", self._tensor.dtype, tuple(self._tensor.shape)))
        return self._tensor


def test_integers_on_a_device_pack_every_byte():
    active = torch.from_numpy(np.array([[bool(value >> i & 1) for i in range(8)] for value in range(256)]))
    log: list[Any] = []
    assert pack_tensor(Elsewhere(active, log)).tolist() == [[value] for value in range(256)]
    assert "multiply" in log and "shift" in log
    assert log[-1] == ("cpu", torch.uint8, (256, 1))  # an eighth of the bytes crosses the bus


@given(st.integers(1, 40), st.integers(1, 9), st.booleans(), DENSITIES, st.integers(0, 99))
def test_integers_on_a_device_pack_as_numpy_does(tokens, eighths, across, density, seed):
    active = torch.from_numpy(coins(tokens, eighths * 8, density=density, seed=seed))
    if across:  # a view that is not contiguous in memory
        active = active.t().contiguous().t()
    log: list[Any] = []
    packed = pack_tensor(Elsewhere(active, log))
    assert packed.dtype == np.uint8 and packed.tolist() == bytes_of(active.numpy()).tolist()
    assert "multiply" in log


@pytest.mark.parametrize("neurons", [1, 7, 9, 71])
def test_a_width_that_is_no_multiple_of_8_is_packed_on_the_host(neurons):
    active = torch.from_numpy(coins(13, neurons))
    log: list[Any] = []
    assert pack_tensor(Elsewhere(active, log)).tolist() == bytes_of(active.numpy()).tolist()
    assert log == [("cpu", torch.bool, (13, neurons))]


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("neurons", [1, 7, 8, 64, 72, 3072])
def test_real_tensors_pack_as_numpy_does(device, neurons):
    active = coins(29, neurons, density=0.3)
    there = torch.from_numpy(active).to(device)
    assert pack_tensor(there).tolist() == bytes_of(active).tolist()
    assert pack_tensor(there[::2]).tolist() == bytes_of(active[::2]).tolist()


EDGES = [0.0, -0.0, 1.0, -1.0, float("inf"), float("-inf"), float("nan"), -float("nan"), 1e-45, -1e-45, 6e-8, 1e-38]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_packing_what_is_positive_at_the_edges_of_floats(dtype):
    values = torch.tensor([EDGES], dtype=torch.float64).to(dtype)
    expected = [[float(value) > 0 for value in values[0].double()]]
    assert pack_positive(values).tolist() == bytes_of(np.array(expected)).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("neurons", [1, 8, 13, 64, 3072, IN_CACHE - 1, IN_CACHE + 5])
def test_packing_what_is_positive_where_stretches_of_rows_meet(dtype, neurons):
    rows = IN_CACHE // neurons
    for tokens in {0, 1, 3, *((max(0, rows - 1), rows, rows + 1, 2 * rows + 1) if rows < 300 else ())}:
        values = torch.from_numpy(np.random.default_rng(tokens).normal(size=(tokens, neurons))).to(dtype)
        assert (pack_positive(values) == np.packbits((values > 0).numpy(), axis=1, bitorder="little")).all()


def test_packing_what_is_positive_of_a_view_and_on_a_device():
    values = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    assert pack_positive(values.t()[::3]).tolist() == bytes_of((values.t()[::3] > 0).numpy()).tolist()
    log: list[Any] = []
    there = Elsewhere(values, log)
    there.element_size = values.element_size  # type: ignore[attr-defined]
    assert pack_positive(there).tolist() == bytes_of((values > 0).numpy()).tolist()
    assert log[0] == "compare" and log[-1] == ("cpu", torch.uint8, (64, 6))


TOKENS = [1, 7, 8, 9, 63, 64, 65, 127, 511, 512, 513, 1025, 2047, 2048, 2049, 4161]
COLUMNS = [1, 3, 8, 9, 63, 64, 65, 129]  # bytes of a token's row


@pytest.mark.parametrize("kind", ["identity", "reversed", "shuffled"])
@pytest.mark.parametrize(("tokens", "columns"), [*((t, 9) for t in TOKENS), *((130, c) for c in COLUMNS), (2113, 65)])
def test_transpose_gathers_and_turns(tokens, columns, kind):
    active = coins(tokens, columns * 8, seed=tokens)
    order = np.arange(tokens)
    if kind == "reversed":
        order = order[::-1]
    elif kind == "shuffled":
        order = np.random.default_rng(tokens).permutation(tokens)
    rows = transpose(bytes_of(active).astype(np.uint8), order)
    assert rows.dtype == np.uint8 and rows.shape == (columns * 8, -(-tokens // 64) * 8)
    turned = np.zeros((columns * 8, rows.shape[1] * 8), bool)  # the bits after the last token are 0
    turned[:, :tokens] = active[order].T
    assert (rows == bytes_of(turned)).all()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_transpose_takes_any_integers_some_tokens_or_one_twice(dtype):
    active = coins(700, 16)
    order = np.random.default_rng(1).integers(0, 700, 530).astype(dtype)
    rows = transpose(bytes_of(active).astype(np.uint8), order)
    assert bits_of(rows, 530) == active[order].T.tolist()
    assert not np.array(bits_of(rows, rows.shape[1] * 8))[:, 530:].any()


def test_transpose_reads_rows_that_are_not_contiguous():
    active = coins(130, 48)
    wide = bytes_of(active).astype(np.uint8)
    order = np.random.default_rng(2).permutation(130)
    assert bits_of(transpose(wide[:, 2:4], order), 130) == active[order, 16:32].T.tolist()


def test_transpose_of_nothing():
    assert transpose(np.zeros((0, 3), np.uint8), np.zeros(0, np.int64)).shape == (24, 0)


def test_transposing_twice_is_the_identity():
    rows = np.random.default_rng(3).integers(0, 256, (128, 16), dtype=np.uint8)
    assert (transpose(transpose(rows, np.arange(128)), np.arange(128)) == rows).all()


@given(rows=SIZES, width=st.integers(0, 30), density=DENSITIES, seed=st.integers(0, 99))
def test_set_bits_are_counted(rows, width, density, seed):
    active = coins(rows, width * 8, density=density, seed=seed)
    counts = count_bits(words(bytes_of(active).astype(np.uint8)), np.arange(rows))
    assert counts.dtype == np.int64 and counts.shape == (rows,)
    assert counts.tolist() == [sum(row) for row in active.tolist()]


@given(rows=st.integers(0, 5), width=st.integers(0, 30), seed=st.integers(0, 99))
def test_a_bit_of_a_word_is_the_bit_of_the_row(rows, width, seed):
    active = coins(rows, width * 8, seed=seed)
    packed = bytes_of(active).astype(np.uint8)
    seen = words(packed)
    assert seen.dtype == np.uint64 and seen.shape == (rows, -(-width // 8))
    for row, bits in zip(seen.tolist(), active.tolist(), strict=True):
        assert sum(word << 64 * i for i, word in enumerate(row)) == sum(1 << i for i, bit in enumerate(bits) if bit)


def test_words_are_a_view_when_nothing_is_missing():
    packed = np.zeros((3, 16), np.uint8)
    assert np.shares_memory(words(packed), packed)
    assert words(packed[:, :13]).shape == (3, 2)
    packed[1, 8] = 1
    assert words(packed).tolist() == [[0, 0], [0, 1], [0, 0]]
