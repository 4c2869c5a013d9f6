"""A channel tried out: whether its account, its permissions and its encryption would do.

An account that runs already is not signed in a second time: two that use one device's keys would
make it unreadable. What the running one says of itself is shown instead.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from secrets import token_hex

from wordmill.accounts import Person
from wordmill.channels.rooms.accounts import LEASE, ChannelAccounts, Configured, load
from wordmill.channels.rooms.base import Check
from wordmill.errors import Conflict, WordmillError


def tried(accounts: ChannelAccounts, actor: Person, name: str) -> Sequence[Check]:
    """What is fine with a channel and what is not. Raises Forbidden, NotFound."""
    configured = accounts.get(actor, name)
    holder = f"{socket.gethostname()}:{os.getpid()}:{token_hex(4)}"
    if not accounts.hold(name, holder):
        return [running(configured)]
    try:
        return asyncio.run(_checked(accounts, configured, holder))
    except WordmillError as error:
        return [Check("options", False, str(error))]
    finally:
        accounts.let_go(name, holder)


async def _checked(
    accounts: ChannelAccounts, configured: Configured, holder: str
) -> Sequence[Check]:
    """A channel is made in the event loop that it is used in; however long it takes, it is held."""
    name = configured.name
    hidden, memory = accounts.secrets_of(name), accounts.memory(name)
    made = load(configured.kind)(configured.options, hidden, memory)
    check = asyncio.ensure_future(made.check())
    while not (await asyncio.wait({check}, timeout=LEASE / 3))[0]:
        if not await asyncio.to_thread(accounts.hold, name, holder):
            raise Conflict(f"Another process has taken the channel {name}. Try it again.")
    return check.result()


def running(configured: Configured) -> Check:
    """How a channel is that runs now."""
    status = configured.status
    words = str(status.get("words") or "")
    connected = bool(status.get("connected"))
    return Check("running", connected and not words, words or "It runs and is connected.")
