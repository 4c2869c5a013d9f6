"""Files that a room does not take: said in a sentence, never tried for ever."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import discord
import pytest

from tests.channels.conftest import Talk
from tests.channels.surface import Service, said
from wordmill.accounts import Person
from wordmill.channels.discord.failures import wrapped
from wordmill.channels.rooms.base import Place
from wordmill.errors import ChannelError, ChannelRefused

Make = Callable[..., Talk]


def exported(door: Talk) -> list[str]:
    """What is said after an export, and that the next message is heard."""
    for text in ("Hello", "--export json", "And now?"):
        door.hear(said(text))
        door.settle()
    assert door.service.given == []
    assert door.service.texts()[-1] == "You said: And now?"
    return door.service.notices()


def test_a_file_that_is_too_large_is_named_and_not_sent(talk: Make, ann: Person) -> None:
    door = talk(Service(file_bytes=100))
    assert "0.0 MiB is the most here" in exported(door)[-1]
    assert "file" not in [verb for verb, _ in door.service.calls]


def test_a_file_that_the_service_refuses_is_named(talk: Make, ann: Person) -> None:
    service = Service()

    def refuse(verb: str, place: Place, nonce: str) -> None:
        if verb == "file":
            raise ChannelRefused("The homeserver says M_TOO_LARGE: no.")

    service.refuse = refuse
    assert "cannot be given here: The homeserver says M_TOO_LARGE" in exported(talk(service))[-1]


@pytest.mark.parametrize(
    ("status", "refused"), [(413, True), (405, True), (408, False), (502, False)]
)
def test_what_discord_will_never_take_is_not_tried_again(status: int, refused: bool) -> None:
    response: Any = SimpleNamespace(status=status, reason="no", headers={})
    with pytest.raises(ChannelError) as found, wrapped():
        raise discord.HTTPException(response, "no")
    assert isinstance(found.value, ChannelRefused) is refused
