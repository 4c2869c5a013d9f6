"""Sketches: exact when short, bounded when long, the same for the same stream."""

import random
from collections import Counter

from wordmill.datasets.sketches import Frequent, Repeats, Sample, Tally


def test_a_short_stream_is_all_of_the_sample() -> None:
    sample: Sample[int] = Sample(10, seed=1)
    sample.extend([1, 2, 3])
    sample.extend([4])
    assert (sample.items, sample.seen) == ([1, 2, 3, 4], 4)


def test_the_sample_does_not_depend_on_how_the_stream_is_cut() -> None:
    stream = list(range(10_000))
    whole: Sample[int] = Sample(20, seed=3)
    whole.extend(stream)
    cut: Sample[int] = Sample(20, seed=3)
    rng = random.Random(0)
    while stream:
        n = rng.randrange(1, 700)
        cut.extend(stream[:n])
        stream = stream[n:]
    assert cut.items == whole.items
    assert cut.seen == 10_000


def test_every_place_of_the_stream_is_sampled_equally_often() -> None:
    hits: Counter[int] = Counter()
    for seed in range(2000):
        sample: Sample[int] = Sample(5, seed)
        sample.extend(range(100))
        assert len(set(sample.items)) == 5
        hits.update(item // 10 for item in sample.items)
    # 1,000 expected in each tenth of the stream; six standard deviations are 180
    assert all(820 < hits[tenth] < 1180 for tenth in range(10)), hits


def test_repeats_are_exact_for_few_texts() -> None:
    repeats = Repeats()
    repeats.extend(["a", "b", "a", "c"])
    repeats.extend(["a"])
    assert repeats.exact
    assert (repeats.distinct, repeats.share) == (3, 0.4)


def test_repeats_of_many_texts_are_estimated() -> None:
    repeats = Repeats(limit=1000)
    repeats.extend(f"text {n % 15_000}" for n in range(20_000))
    assert not repeats.exact
    assert len(repeats._counts) <= 1000
    assert abs(repeats.share - 0.25) < 0.04
    assert abs(repeats.distinct - 15_000) < 1500


def test_no_texts_repeat_nothing() -> None:
    assert Repeats().share == 0


def test_frequent_things_survive_and_are_never_counted_too_high() -> None:
    frequent = Frequent(limit=64)
    rng = random.Random(5)
    stream = (
        ["Once upon a time"] * 900 + [f"opening {n}" for n in range(9000)] + ["In a town"] * 400
    )
    rng.shuffle(stream)
    for start in range(0, len(stream), 500):
        frequent.extend(stream[start : start + 500])
    top = frequent.top(2)
    assert [thing for thing, _ in top] == ["Once upon a time", "In a town"]
    assert 900 - frequent.slack <= top[0][1] <= 900
    assert frequent.slack <= len(stream) / 32


def test_what_came_once_is_not_frequent() -> None:
    frequent = Frequent()
    frequent.extend(["a", "b", "b"])
    assert frequent.top(5) == [("b", 2)]


def test_a_tally_gives_up_on_too_many_values() -> None:
    tally: Tally[str] = Tally(limit=2)
    tally.extend({"a": 1, "b": 2})
    assert tally.full
    tally.extend({"c": 1})
    tally.extend({"a": 1})
    assert not tally.full
    assert not tally.counts
