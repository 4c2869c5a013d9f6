"""What a platform that runs containers or processes for others says in names of its own.

Heroku and its kin give the port in PORT and each service by a variable of its maker. They count
where neither the command line, a file nor a variable of ours gives the setting, and only for what
serves: in anybody's shell DATABASE_URL may be the database of another program, and no command
should make its tables there. A process on a Heroku dyno (DYNO is set) is always on a platform, so
that `heroku run wordmill ...` finds the same.
"""

from collections.abc import Collection, Mapping
from typing import Final

NAMES: Final[Mapping[str, str]] = {
    "PORT": "port",
    "DATABASE_URL": "database_url",
    "REDIS_URL": "redis_url",
    "CLOUDAMQP_URL": "broker_url",
    "BONSAI_URL": "elasticsearch_url",
}
"""Variable of a platform -> setting."""


def offered(
    variables: Mapping[str, str], serving: bool, given: Collection[str]
) -> dict[str, tuple[str, str]]:
    """Setting -> its text and where that comes from, but for those that are `given` elsewhere.

    variables: the environment.  serving: this process is a server or one of its workers.
    Who is told the port is reached from other machines, so it listens on every address.
    """
    if not serving and not variables.get("DYNO"):
        return {}
    found = {
        name: (variables[variable], f"environment ({variable})")
        for variable, name in NAMES.items()
        if variables.get(variable) and name not in given
    }
    if "port" in found and "host" not in given:
        found["host"] = ("0.0.0.0", "environment (PORT)")  # noqa: S104  # the platform's router
    return found
