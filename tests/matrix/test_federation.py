"""Two homeservers that federate: people of the same name on both are two people."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.matrix.conftest import Mill
from tests.matrix.somebody import Somebody, somebody
from tests.servers import synapse
from wordmill.accounts.identities import is_guest


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[synapse.Server, synapse.Server]]:
    with synapse.federating(tmp_path_factory.mktemp("federation")) as servers:
        yield servers


@pytest.fixture(scope="module")
def homeserver(pair: tuple[synapse.Server, synapse.Server]) -> synapse.Server:
    """Where the mill has its account."""
    return pair[0]


@pytest.mark.once
@pytest.mark.timeout(300)
def test_the_same_localpart_on_two_homeservers_is_two_people_in_one_room(
    pair: tuple[synapse.Server, synapse.Server], mill: Mill, tmp_path: Path
) -> None:
    mill.configure(guests=True, guest_requests=2)
    mill.start()
    with ExitStack() as stack:
        near, far = (
            stack.enter_context(somebody(server.url, server.register("ann"), tmp_path / f"{n}"))
            for n, server in enumerate(pair)
        )
        assert near.user != far.user
        assert near.user.partition(":")[0] == far.user.partition(":")[0]
        room = near.room(mill.user, far.user, name="Both of us")
        far.until(lambda: room in far.client.invited_rooms, "the invitation")
        far.join(room)
        near.joined(room, mill.user, far.user)
        far.joined(room, mill.user)

        def ask(who: Somebody, text: str) -> None:
            who.say(room, f"{mill.user}: {text}", **{"m.mentions": {"user_ids": [mill.user]}})

        def heard(text: str) -> None:
            for reader in (near, far):
                reader.hears(room, mill.user, text)

        told = []
        for who, text in ((near, "one"), (far, "two"), (near, "three")):
            ask(who, text)
            told.append(f"You said: ann ({who.user}): {text}")
            heard(told[-1])
        ask(near, "four")
        heard("quota of 2 requests a day is used up")
        ask(far, "five")
        told.append(f"You said: ann ({far.user}): five")
        for reader in (near, far):
            reader.hears(room, mill.user, told[-1])
            said = [text for text in reader.answers(room, mill.user) if text.startswith("You said")]
            assert sorted(said) == sorted(told)  # each once, on both homeservers
        guests = [one for one in mill.house.accounts.people.all(mill.admin) if is_guest(one)]
        find = mill.house.accounts.identities.find
        known = [find("matrix", who.user) for who in (near, far)]
        assert {one.id for one in known if one} == {one.id for one in guests}
        assert len(guests) == 2
