"""Draws are functions of seed, column and position, fair, and balanced where they say so."""

from collections import Counter
from statistics import mean

import pytest

from wordmill.columns.sampling import (
    PLACES,
    WORD,
    Choice,
    Deck,
    Shuffle,
    Stream,
    below,
    block_counts,
    fraction,
)


def test_a_word_is_pinned() -> None:
    """A change here changes every dataset that was ever made; it needs a new recipe version."""
    assert Stream(7, "mood").words([0, 1, 8, 1_000_000_007]) == [
        16479683739949458826,
        903573248693266739,
        3818294114994843606,
        12396875816444640243,
    ]


def test_words_do_not_depend_on_what_else_is_asked() -> None:
    stream = Stream(7, "mood")
    together = stream.words(range(100))
    assert [stream.word(position) for position in range(100)] == together
    assert stream.words([99, 3, 3, 40]) == [together[place] for place in (99, 3, 3, 40)]


@pytest.mark.parametrize("other", [Stream(8, "mood"), Stream(7, "moods"), Stream(7, "mood", "x")])
def test_streams_of_another_seed_column_or_purpose_are_others(other: Stream) -> None:
    words = set(Stream(7, "mood").words(range(1000)))
    assert len(words) == 1000
    assert words.isdisjoint(other.words(range(1000)))


def test_words_of_one_position_are_a_prefix_of_more() -> None:
    stream = Stream(7, "mood")
    assert stream.many(5, 3) == stream.many(5, 20)[:3]
    assert len(set(stream.many(5, 1000))) == 1000
    assert set(stream.many(5, 16)).isdisjoint(stream.many(6, 16))
    assert set(stream.many(0, 16)).isdisjoint(stream.words(range(16)))


def test_words_are_spread_evenly() -> None:
    words = Stream(7, "mood").words(range(100_000))
    assert mean(map(fraction, words)) == pytest.approx(0.5, abs=0.005)
    counts = Counter(below(word, 10) for word in words)
    assert set(counts) == set(range(10))
    assert all(9_600 < count < 10_400 for count in counts.values())


def test_the_ends_of_a_word() -> None:
    assert (fraction(0), below(0, 6)) == (0.0, 0)
    assert fraction(WORD - 1) < 1
    assert below(WORD - 1, 6) == 5
    assert Choice([2, 1, 0]).index(WORD - 1) == 1
    assert Choice([0, 1, 2]).index(0) == 1


def test_a_choice_follows_the_weights() -> None:
    words = Stream(7, "product").words(range(30_000))
    counts = Counter(Choice([2, 1, 0]).indexes(words))
    assert counts[0] == pytest.approx(20_000, rel=0.02)
    assert counts[1] == pytest.approx(10_000, rel=0.04)
    assert 2 not in counts
    assert Choice([2, 1]).indexes(words) == [Choice([2, 1]).index(word) for word in words]


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ([2, 1], (2, 1)),
        ([5, 5, 5], (1, 1, 1)),
        ([4, 2, 0], (2, 1, 0)),
        ([0.5, 0.25, 0.25], (2, 1, 1)),
        ([0.1, 0.2, 0.7], (1, 2, 7)),
        ([1, 0.333], (1000, 333)),
    ],
)
def test_a_block_is_the_smallest_one_with_these_weights(
    weights: list[float], counts: tuple[int, ...]
) -> None:
    assert block_counts(weights) == counts


def test_a_block_that_would_be_too_large_is_rounded() -> None:
    counts = block_counts([1, 0.000001, 0.333333])
    assert sum(counts) == PLACES
    assert counts[1] == 1
    assert counts[0] / counts[2] == pytest.approx(3, rel=0.001)


@pytest.mark.parametrize("weights", [[1, 1], [2, 1], [3, 2, 1], [1] * 17, [40, 7, 3]])
def test_every_prefix_of_a_deck_is_balanced(weights: list[float]) -> None:
    counts = block_counts(weights)
    deck = Deck(7, "mood", counts)
    seen = [0] * len(counts)
    for position, index in enumerate(deck.indexes(range(5 * deck.size)), 1):
        seen[index] += 1
        for value, count in enumerate(counts):
            assert abs(seen[value] - position * count / deck.size) < 2
    assert tuple(seen) == tuple(5 * count for count in counts)


def test_a_deck_is_dealt_anew_in_every_block() -> None:
    deck = Deck(7, "mood", (1,) * 5)
    blocks = [tuple(deck.block(number)) for number in range(100)]
    assert all(sorted(block) == [0, 1, 2, 3, 4] for block in blocks)
    assert len(set(blocks)) > 50
    assert [index for block in blocks for index in block] == deck.indexes(range(500))
    firsts = Counter(block[0] for block in (deck.block(n) for n in range(2000)))
    assert all(count == pytest.approx(400, rel=0.2) for count in firsts.values())


def test_a_deck_in_any_order_is_the_same() -> None:
    there = Deck(7, "mood", (2, 1)).indexes(range(300))
    backwards = Deck(7, "mood", (2, 1)).indexes(range(299, -1, -1))
    assert backwards[::-1] == there


@pytest.mark.parametrize("n", [1, 2, 3, 10, 64, 65, 1000])
def test_a_shuffle_is_a_permutation(n: int) -> None:
    shuffle = Shuffle(n, 7, "person")
    assert sorted(shuffle) == list(range(n))
    assert [shuffle[index] for index in range(n)] == list(shuffle)


def test_shuffles_differ_and_need_no_list() -> None:
    orders = {tuple(Shuffle(20, 7, "person", number)) for number in range(50)}
    assert len(orders) == 50
    huge = Shuffle(10**12, 7, "person")
    assert len({huge[index] for index in range(1000)}) == 1000
    firsts = Counter(Shuffle(10, 7, "person", number)[0] for number in range(2000))
    assert all(count == pytest.approx(200, rel=0.3) for count in firsts.values())
