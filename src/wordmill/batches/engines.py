"""What a process that answers a batch in Python needs, whether it has all of it or a block alone:
whose it is, the engine, what may be spent, and when it is to end.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from wordmill._engine import Engine, EngineFault
from wordmill.accounts import Accounts, Person
from wordmill.batches.batches import Batches
from wordmill.batches.types import Batch, Counts
from wordmill.database import LOCAL, now
from wordmill.errors import EngineError
from wordmill.models import Catalog
from wordmill.settings import Settings
from wordmill.sharing import shared

Amounts = Mapping[str, float | None]
"""Requests, tokens and money; None where there is no bound."""

End = Literal["cancelled", "expired"]

_WORDS: Mapping[End, tuple[str, str]] = {
    "cancelled": (
        "batch_cancelled",
        "The batch was cancelled before this request was answered.",
    ),
    "expired": ("batch_expired", "The batch expired before this request was answered."),
}


def owner_of(accounts: Accounts, batch: Batch) -> Person:
    """Whose batch it is. Raises NotFound."""
    people = accounts.people
    return people.local() if batch.owner == LOCAL else people.get(batch.owner)


def end_of(batches: Batches, batch: Batch) -> End | None:
    """Why a batch is to end before its time; None while it goes on."""
    state = batches.state(batch.id)
    if state is None or state in ("cancelling", "cancelled"):
        return "cancelled"
    return "expired" if now() > batch.expires else None


def given_up(end: End) -> tuple[str, str]:
    """The error of a line that was not answered before that: its code and its words."""
    return _WORDS[end]


def spent(counts: Counts) -> dict[str, float]:
    """What the answers so far have used of a budget."""
    return {
        "requests": counts.completed + counts.failed - counts.rejected,
        "tokens": counts.input_tokens + counts.output_tokens,
        "money": counts.money,
    }


def within_quotas(accounts: Accounts, person: Person, most: Amounts, ahead: Amounts) -> Amounts:
    """Ceilings, lowered to what the person's quotas leave; whole requests and tokens.

    ahead: how much of the ceilings is used already, where they count from the batch's begin.
    """
    found = dict(most)
    for period in accounts.ledger.used(person.id).values():
        for name, held in found.items():
            quota = getattr(period.quota, name) if period.quota is not None else None
            if quota is None:
                continue
            left = max(0.0, quota - getattr(period.amount, name)) + (ahead.get(name) or 0)
            found[name] = left if held is None else min(held, left)
    for name in ("requests", "tokens"):
        held = found[name]
        found[name] = None if held is None else int(held)
    return found


def open_engine(
    settings: Settings,
    catalog: Catalog,
    batch: Batch,
    models: Collection[str],
    budget: Amounts,
    folder: Path | None = None,
) -> Engine:
    """An engine with the lanes of these models and of those that stand in for them.

    folder: where it keeps what was answered, with the cache of the data folder beside; without one
    it keeps nothing here.  Raises EngineError, and what the catalog raises.
    """
    chain = {one.name: one for name in sorted(models) for one in catalog.chain(name)}
    lanes: list[Mapping[str, Any]] = [catalog.provider(name).lane(batch.owner) for name in chain]
    cached = bool(batch.options["cache"])
    config = {
        "records": None if folder is None else str(folder / "records.db"),
        "cache": str(settings.home / "cache.db") if cached and folder is not None else None,
        "owner": batch.owner,
        "lanes": lanes or [{"name": "none", "base_url": "http://127.0.0.1", "model": "none"}],
        "in_doubt": settings.in_doubt,
        "shared": shared(settings, answers=cached),
        "budget": dict(budget),
        "whole": True,
    }
    try:
        return Engine(json.dumps(config))
    except EngineFault as fault:
        raise EngineError(f"The engine cannot start: {fault}") from fault
