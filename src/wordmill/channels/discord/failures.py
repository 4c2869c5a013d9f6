"""What discord.py raises, as the errors of channels: sentences on what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
import discord

from wordmill.errors import ChannelClosed, ChannelError, ChannelLimited, ChannelRefused

INTENTS: Final = (
    "Discord does not let this bot read what is said (4014): open the application at "
    "https://discord.com/developers/applications, choose Bot, and switch on Message Content "
    "Intent under Privileged Gateway Intents."
)
SIGNED_OUT: Final = (
    "Discord does not accept the token (any more): reset it on the page Bot of the application, "
    "and give it to `wordmill channels add discord NAME --replace --secret token`."
)
_CODES: Final = {
    4004: SIGNED_OUT,
    4010: "Discord refuses this bot's shard.",
    4011: "This bot is in too many servers for one connection.",
    4012: "Discord does not speak this version of its protocol any more: update discord.py.",
    4013: "Discord does not know the intents that were asked for: update discord.py.",
    4014: INTENTS,
}


@contextmanager
def wrapped() -> Iterator[None]:
    """Foreign errors as ours. Raises ChannelError and those below it."""
    try:
        yield
    except discord.LoginFailure as error:
        raise ChannelClosed(SIGNED_OUT) from error
    except discord.PrivilegedIntentsRequired as error:
        raise ChannelClosed(INTENTS) from error
    except discord.ConnectionClosed as error:
        words = _CODES.get(error.code)
        if words is None:
            raise ChannelError(f"Discord closed the connection ({error.code}).") from error
        raise ChannelClosed(words) from error
    except discord.RateLimited as error:
        raise _limited(error.retry_after) from error
    except discord.HTTPException as error:
        raise _of_status(error) from error
    except discord.DiscordException as error:
        raise ChannelError(f"Discord cannot be asked: {error}") from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        words = str(error) or type(error).__name__
        raise ChannelError(f"Discord does not answer: {words}.") from error


def _of_status(error: discord.HTTPException) -> ChannelError:
    words = f"{error.text or error.response.reason} ({error.status}, {error.code})"
    if error.status == 429:
        return _limited(float(error.response.headers.get("Retry-After", 5.0)))
    if error.status == 401:
        return ChannelClosed(SIGNED_OUT)
    if 400 <= error.status < 500 and error.status != 408:
        return ChannelRefused(f"Discord refuses this: {words}.")
    return ChannelError(f"Discord failed: {words}.")


def _limited(seconds: float) -> ChannelLimited:
    return ChannelLimited(f"Discord wants to be asked again in {seconds:.1f} s.", seconds)
