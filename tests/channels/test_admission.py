"""Who may talk, and machines that answer each other: by a clock of our own."""

from collections.abc import Callable, Sequence

import pytest

from wordmill.channels.rooms.admission import MOST_BOUNCES, MOST_TURNS, QUIET, Bounces, Policy
from wordmill.errors import InvalidInput

PLACE = "!room $thread"


def answered(
    pause: Callable[[int], float], senders: Sequence[str], *, told: bool = False, number: int = 100
) -> list[int]:
    """Which of so many messages in turns with us were answered. pause: seconds before each."""
    clock = [0.0]
    bounces = Bounces(lambda: clock[0])
    found: list[int] = []
    for turn in range(number):
        clock[0] += pause(turn)
        going, _ = bounces.allows(PLACE, senders[turn % len(senders)], told, guess=not told)
        if going:
            found.append(turn)
            bounces.answered(PLACE)
    return found


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("senders", [["a"], ["a", "b"], ["a", "a", "b"]])
def test_machines_in_turns_fall_quiet(senders: list[str], told: bool) -> None:
    assert len(answered(lambda _: 0.5, senders, told=told)) <= MOST_BOUNCES + 1


@pytest.mark.parametrize("senders", [["a"], ["a", "b"]])
def test_slow_machines_fall_quiet_too(senders: list[str]) -> None:
    assert len(answered(lambda _: 5.0, senders)) <= MOST_TURNS + 1


def test_people_are_answered_always() -> None:
    assert len(answered(lambda _: 30.0, ["a"])) == 100  # not so quickly for so long
    assert len(answered(lambda turn: 90.0 if turn % 20 == 0 else 5.0, ["a"])) == 100  # with pauses
    assert len(answered(lambda _: 1.0, ["a", "b", "c"])) == 100  # many at once


def test_others_are_answered_while_machines_are_not_and_these_again_after_it() -> None:
    clock = [0.0]
    bounces = Bounces(lambda: clock[0])
    while bounces.allows(PLACE, "bot", True, guess=False)[0]:
        bounces.answered(PLACE)
    assert bounces.allows(PLACE, "bot", True, guess=False) == (False, False)
    assert bounces.allows(PLACE, "other bot", True, guess=False) == (False, False)
    assert bounces.allows(PLACE, "ann", False, guess=False) == (True, False)
    clock[0] += QUIET + 1
    assert bounces.allows(PLACE, "bot", True, guess=False) == (True, False)


@pytest.mark.parametrize("pattern", ["*:example.org", "example.org", "*"])
def test_a_rooms_server_says_nothing_of_who_talks_in_it(pattern: str) -> None:
    policy = Policy.of({"allow": pattern})
    assert policy.admits("@ann:example.org", "!team:example.org", "example.org")
    outsider = ("@eve:evil.org", "!team:example.org", "evil.org")
    assert policy.admits(*outsider) == (pattern == "*")
    assert Policy.of({"allow": "!team:example.org"}).admits(*outsider)
    assert not Policy.of({"deny": "!*:example.org"}).admits(*outsider)


def test_a_role_is_allowed_by_its_number_alone() -> None:
    with pytest.raises(InvalidInput, match="Name it by its number"):
        Policy.of({"allow": "role:team,direct"})
    policy = Policy.of({"allow": "role:1234,*team", "deny": "role:rude"})
    assert policy.admits("5", "7", "server:1", "role:1234", "role:team")
    assert not policy.admits("5", "7", "server:1", "role:99", "role:team")
    assert not policy.admits("5", "7", "server:1", "role:1234", "role:rude")
