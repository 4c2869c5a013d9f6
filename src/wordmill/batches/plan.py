"""What consumers need to answer a batch, written down once and without secrets.

A plan says where the requests go, by what rules, and what they may cost. Of a key it says where it
is found: in a variable of the consumer's environment, or sealed in the database. Headers keep their
`${NAME}`. So a plan may be seen by whoever sees the table, and a key that is changed holds from the
next session of a consumer.
"""

from collections.abc import Iterable
from typing import Any, Final

from wordmill.accounts import Person
from wordmill.batches.types import Batch
from wordmill.models import Catalog
from wordmill.settings import Settings

VERSION: Final = 1


def missing(settings: Settings) -> str:
    """What the scaled-out size lacks, as a sentence; "" where it lacks nothing or is not wanted."""
    if not settings.broker_url:
        return ""
    needed = {
        "PostgreSQL (WORDMILL_DATABASE_URL)": settings.database_url.startswith("postgresql"),
        "Elasticsearch (WORDMILL_ELASTICSEARCH_URL)": bool(settings.elasticsearch_url),
    }
    lacking = [name for name, there in needed.items() if not there]
    if not lacking:
        return ""
    return (
        f"Batches over RabbitMQ (WORDMILL_BROKER_URL) also need {' and '.join(lacking)}. "
        "Set what is missing, or leave all of them empty for one machine."
    )


def scaled_out(settings: Settings) -> bool:
    """Whether blocks go to consumers."""
    return bool(settings.broker_url) and not missing(settings)


def plan_of(
    batch: Batch,
    person: Person,
    catalog: Catalog,
    names: Iterable[str],
    rules: dict[str, Any],
    index: str,
) -> dict[str, Any]:
    """The plan of a batch whose lines are for these models.

    rules: of its lines, as the engine has them.  index: where its results are found.
    Raises KeyMissing, UnknownName, ConfigError for what cannot be asked.
    """
    wanted = sorted(names)
    chain = {one.name: one for name in wanted for one in catalog.chain(name)}
    lanes = [catalog.provider(name).plan(person.id) for name in chain]
    path = catalog.provider(wanted[0]).path(batch.kind) if wanted else "/"
    budget: dict[str, float | None] = {"requests": None, "tokens": None, "money": None}
    return {
        "version": VERSION,
        "path": path,
        "kind": batch.kind,
        "endpoint": batch.endpoint,
        "share": bool(batch.options["cache"]),
        "cache": bool(batch.options["cache"]),
        "rules": rules,
        "owner": batch.owner,
        "person": person.id,
        "lanes": lanes,
        "budget": budget | dict(batch.options["budget"]),
        "index": index,
        "expires": batch.expires.timestamp(),
        "dataset": batch.dataset,
        "source": batch.source,
    }
