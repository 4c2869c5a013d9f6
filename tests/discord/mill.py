"""A process with the channels of a house, for tests that kill it.

python -m tests.discord.mill REST GATEWAY
"""

import signal
import sys

import discord.gateway
import discord.http
from yarl import URL

from wordmill.channels.house import open_house
from wordmill.channels.rooms import accounts, manager
from wordmill.queues import embedded
from wordmill.settings import load

LEASE = 3.0


def main(rest: str, gateway: str) -> None:
    discord.http.Route.BASE = rest
    discord.gateway.DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway)
    # Who was killed holds a channel and a job no longer than this.
    accounts.LEASE = manager.LEASE = embedded.LEASE = LEASE  # type: ignore[misc]
    with open_house(load()) as house, manager.Manager(house):
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
