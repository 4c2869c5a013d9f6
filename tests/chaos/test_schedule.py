"""What the chaos is made of, without the parts."""

from tests.chaos.schedule import BLOWS, FIRST, schedule


def test_a_seed_replays_its_blows() -> None:
    assert schedule(7, 240.0) == schedule(7, 240.0)
    assert schedule(7, 240.0) != schedule(8, 240.0)


def test_every_kind_falls_within_a_long_run_and_all_within_its_time() -> None:
    for seed in range(50):
        blows = schedule(seed, 120.0)
        assert {blow.what for blow in blows} == set(BLOWS)
        assert all(FIRST <= blow.at <= 120.0 for blow in blows)
        assert blows == sorted(blows, key=lambda blow: blow.at)


def test_a_short_run_has_few() -> None:
    assert len(schedule(1, 10.0)) == 2
