"""Variables: what each token's category is. N-grams, against tuples cut out of the text one by one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurolens import NeurolensError, variables
from neurolens.corpus import Corpus, context_order
from neurolens.nested import nest
from neurolens.variables import Variable, ngrams

settings.register_profile("laws", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("laws")

LONGEST = 5


@st.composite
def corpora(draw) -> tuple[Corpus, int]:
    """A corpus, and the size of its vocabulary: text that repeats itself, documents of all lengths."""
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    eos, vocabulary = draw(st.sampled_from([(2, 3), (2, 5), (0, 4), (2, 50_272)]))
    sequences, positions = draw(st.integers(1, 24)), draw(st.integers(2, 14))
    texts = rng.integers(0, vocabulary, (draw(st.sampled_from([1, 3, 40])), positions))
    tokens = texts[rng.integers(0, len(texts), sequences)]  # the same rows again: n-grams of every length repeat
    tokens[rng.random(tokens.shape) < draw(st.sampled_from([0.0, 0.1, 0.4]))] = eos
    tokens[:, 0] = eos
    tokens[:, 1][tokens[:, 1] == eos] = (eos + 1) % vocabulary
    label = rng.integers(0, 2, sequences)
    return Corpus.from_tokens(tokens, label=label, label_names=["x", "y", "never"], eos=eos), vocabulary


def category_of(kind: str, c: Corpus, sequence: int, position: int) -> int:
    earlier = sum(label == c.label[sequence] for label in c.label[:sequence].tolist())
    return {"none": 0, "position": position, "label": int(c.label[sequence]), "group": earlier % 20}[kind]


def gram_at(c: Corpus, sequence: int, position: int, n: int) -> tuple[int, ...]:
    """The n tokens up to this one in reading order; () if a separator or the start of the sequence is among them."""
    cut = c.tokens[sequence].tolist()[max(0, position - n + 1) : position + 1]
    return tuple(cut) if len(cut) == n and c.eos not in cut else ()


def grams_of(c: Corpus, n: int) -> list[tuple[int, ...]]:
    sequences, positions = c.shape
    return [gram_at(c, s, p, n) for s in range(sequences) for p in range(positions)]


@given(drawn=corpora(), kind=st.sampled_from(["none", "position", "label", "group"]))
def test_a_variable_is_the_category_of_every_token(drawn, kind):
    c, _ = drawn
    sequences, positions = c.shape
    variable = getattr(variables, kind)(c)
    codes = [category_of(kind, c, s, p) for s in range(sequences) for p in range(positions)]
    assert variable.name == kind
    assert variable.codes.dtype == np.int32 and variable.codes.tolist() == codes
    assert variable.categories == {"none": 1, "label": 3, "group": 20}.get(kind, positions)
    assert variable.total.tolist() == [codes.count(code) for code in range(variable.categories)]


def test_groups_are_as_many_as_asked_for():
    c = Corpus.from_tokens(np.array([[2, 5, 6]] * 7))
    variable = variables.group(c, 3)
    assert variable.categories == 3
    assert variable.codes.reshape(7, 3)[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("codes", [[-2, 0], [0, 3]])
def test_codes_beyond_the_categories_are_refused(codes):
    with pytest.raises(NeurolensError, match=r"'colour' has codes -?\d…\d, expected −1…2"):
        Variable("colour", np.array(codes, np.int32), 3)
    assert Variable("colour", np.array([-1, 2], np.int32), 3).total.tolist() == [0, 0, 1]
    assert Variable("colour", np.zeros(0, np.int32), 3).total.tolist() == [0, 0, 0]


def test_codes_in_the_order_of_rows():
    variable = Variable("v", np.array([4, -1, 2, 0], np.int32), 5).in_order(np.array([2, 3, 0, 1]))
    assert variable.codes.tolist() == [2, 0, 4, -1] and (variable.name, variable.categories) == ("v", 5)
    assert variable.codes.flags.c_contiguous


# n-grams


@given(drawn=corpora(), most=st.integers(1, LONGEST))
def test_an_ngram_is_the_tokens_that_end_here(drawn, most):
    """The dictionary takes every code back to the tuple of tokens, and knows each tuple once."""
    c, vocabulary = drawn
    found = ngrams(c, most, vocabulary)
    assert [grams.n for grams in found] == list(range(1, most + 1))
    for n, grams in enumerate(found, 1):
        expected, codes = grams_of(c, n), grams.variable.codes
        assert codes.dtype == grams.tokens.dtype == np.int32 and grams.tokens.shape == (grams.variable.categories, n)
        names = [tuple(gram) for gram in grams.tokens.tolist()]
        assert [names[code] if code >= 0 else () for code in codes.tolist()] == expected
        assert len(set(names)) == len(names)
        if n > 1:  # of tokens all there are in the vocabulary
            assert set(names) == set(expected) - {()}
        totals = dict(zip(names, grams.variable.total.tolist(), strict=True))
        assert {name: total for name, total in totals.items() if total} == Counter(filter(None, expected))
    assert found[0].tokens[:, 0].tolist() == list(range(vocabulary))


@given(drawn=corpora(), least=st.integers(1, 24))
def test_numbers_ascend_along_the_context_order_of_every_block(drawn, least):
    """Up to trigrams: each is one stretch of a block, and the stretches come in the order of their numbers."""
    c, vocabulary = drawn
    sequences, positions = c.shape
    for grams in ngrams(c, LONGEST, vocabulary):
        newest_first = [tuple(reversed(gram)) for gram in grams.tokens.tolist()]
        assert newest_first == sorted(newest_first)
        for first in range(0, sequences, least) if grams.n <= 3 else ():
            inside = c.tokens[first : first + least]
            order = context_order(inside, c.eos) + first * positions
            codes = [code for code in grams.in_order(order).variable.codes.tolist() if code >= 0]
            assert codes == sorted(codes)


def test_ngrams_in_the_order_of_rows():
    c = Corpus.from_tokens(np.array([[2, 5, 6, 5, 6]]))
    two = ngrams(c, 2, 9)[1].in_order(np.array([4, 3, 2, 1, 0]))
    assert two.n == 2 and two.tokens.tolist() == [[6, 5], [5, 6]]
    assert two.variable.codes.tolist() == [1, 0, 1, -1, -1]


def test_ngrams_by_hand():
    """Documents a b | c of one sequence and d of the next: no n-gram has a separator or is of two documents."""
    found = ngrams(Corpus.from_tokens(np.array([[2, 5, 6, 2, 7], [2, 8, 8, 8, 8]])), 5, 9)
    assert found[1].tokens.tolist() == [[5, 6], [8, 8]]
    assert found[1].variable.codes.tolist() == [-1, -1, 0, -1, -1, -1, -1, 1, 1, 1]
    assert found[2].tokens.tolist() == [[8, 8, 8]] and found[2].variable.total.tolist() == [2]
    assert found[3].tokens.tolist() == [[8, 8, 8, 8]] and found[3].variable.total.tolist() == [1]
    assert found[4].tokens.shape == (0, 5) and found[4].variable.categories == 0


def test_long_ngrams_of_a_large_vocabulary_do_not_run_over():
    """50,272⁵ is more than 64 bits hold: fivegrams that differ in one token are different, wherever it is."""
    rng = np.random.default_rng(0)
    tokens = np.concatenate([np.full((400, 1), 2), rng.integers(50_200, 50_272, (400, 5))], axis=1)
    for column in range(1, 6):  # families that differ in this column alone
        tokens[80 * column - 80 : 80 * column] = tokens[80 * column - 80]
        tokens[80 * column - 80 : 80 * column, column] = 50_272 - rng.permutation(80) - 1
    five = ngrams(Corpus.from_tokens(tokens), 5, 50_272)[4]
    wanted = {tuple(gram) for gram in tokens[:, 1:].tolist()}
    assert len(wanted) >= 396 and {tuple(gram) for gram in five.tokens.tolist()} == wanted


def test_the_separator_is_the_corpus_own():
    c = Corpus.from_tokens(np.array([[0, 2, 0, 1]]), eos=0)
    assert ngrams(c, 1, 3)[0].variable.codes.tolist() == [-1, 2, -1, 1]


def test_a_token_beyond_the_vocabulary_is_refused():
    with pytest.raises(NeurolensError, match="'unigram' has codes"):
        ngrams(Corpus.from_tokens(np.array([[2, 5, 9]])), 1, 9)


# nesting


def test_only_what_divides_the_one_before_is_nested_in_it():
    halves, thirds = np.repeat([0, 1], 3).astype(np.int32), np.repeat([0, 1, 2], 2).astype(np.int32)
    one, two, three = Variable("one", halves, 2), Variable("two", np.arange(6, dtype=np.int32), 6), thirds
    for variables_ in ([one, Variable("three", three, 3)], [Variable("some", np.where(halves, halves, -1), 2), two]):
        with pytest.raises(NeurolensError, match="is not nested in the one before"):
            nest(variables_)
    assert nest([one, two]).variables == [one, two]
