"""The tables of people's things, as queries see them.

Their shape in a database belongs to `migrations`; a test compares the two. Full-text search stands
beside them, made by the migrations alone: an FTS5 table on SQLite, a tsvector column on PostgreSQL.

Everything has an `owner` or a `person`: the id of somebody in `people`. The id `local` is whoever
runs the command line on this machine, and the first admin is that person.
"""

import secrets
import time
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

LOCAL = "local"
"""The person at the command line; the first admin takes this id."""


def new_id() -> str:
    """24 hex digits that sort by the time at which they were made, to the millisecond."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"


def now() -> datetime:
    """This moment, with its zone."""
    return datetime.now(UTC)


class Instant(TypeDecorator[datetime]):
    """A point in time, always with its zone: SQLite forgets zones, so it keeps UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """As UTC. Raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """With UTC as its zone where the database gave none."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

models = Table(
    "models",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("provider", String(100), nullable=False),
    Column("base_url", String(2000), nullable=False),
    Column("model", String(500), nullable=False),
    Column("key_env", String(200)),
    Column("headers", JSON, nullable=False),
    Column("concurrency", Integer),
    Column("rpm", Integer),
    Column("tpm", Integer),
    Column("price_in", Float, nullable=False),
    Column("price_out", Float, nullable=False),
    Column("context", Integer),
    Column("fallback", String(200)),
    Column("without", JSON, nullable=False),
    Column("created", Instant, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("recipe", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("folder", String(4000), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("state", String(32), nullable=False),
    Column("counts", JSON, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("host", String(255)),
    Column("pid", Integer),
    Column("fence", Integer, nullable=False),
    Column("created", Instant, nullable=False),
    Column("started", Instant),
    Column("heartbeat", Instant),
    Column("ended", Instant),
    Index(None, "owner", "created"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(100), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("state", String(32), nullable=False),
    Column("lease_until", Instant),
    Column("fence", Integer, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("progress", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
    Column("subject", String(64)),
    Column("worker", String(200)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("error", Text),
    Column("once", String(200)),
    Index(None, "state", "lease_until"),
    Index(None, "owner", "created"),
    Index(None, "subject"),
    UniqueConstraint("owner", "once"),
)
"""Long work. `subject`: what it works on. `once`: an idempotency key of its owner."""

settings = Table(
    "settings",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("value", String(10_000), nullable=False),
    Column("updated", Instant, nullable=False),
)


people = Table(
    "people",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("email", String(320), nullable=False, unique=True),
    Column("name", String(200), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password", String(500)),
    Column("language", String(16)),
    Column("settings", JSON, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created", Instant, nullable=False),
    Column("seen", Instant),
)
"""`role`: admin, member or pending. `email`: lower case. `password`: an Argon2id hash."""

identities = Table(
    "identities",
    metadata,
    Column("provider", String(300), primary_key=True),
    Column("subject", String(300), primary_key=True),
    Column("person", ForeignKey("people.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("created", Instant, nullable=False),
)
"""Who somebody is elsewhere: an OIDC issuer's subject, a Matrix or Discord id."""

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", ForeignKey("people.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("address", String(100), nullable=False),
    Column("agent", String(500), nullable=False),
    Column("created", Instant, nullable=False),
    Column("seen", Instant, nullable=False),
    Column("expires", Instant, nullable=False),
    Column("revoked", Instant),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("person", ForeignKey("people.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("start", String(16), nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("expires", Instant),
    Column("used", Instant),
    Column("revoked", Instant),
)
"""`start`: the first characters, by which its owner knows it. `digest`: a keyed SHA-256."""

codes = Table(
    "codes",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("purpose", String(32), nullable=False),
    Column("person", String(64)),
    Column("detail", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("expires", Instant, nullable=False),
    Column("used", Instant),
)
"""One-time codes: for the first admin, an invitation, the linking of a chat account."""

provider_keys = Table(
    "provider_keys",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Instant, nullable=False),
)
"""Keys of providers, encrypted. `owner` "" is everybody's; somebody's own comes first."""

throttles = Table(
    "throttles",
    metadata,
    Column("key", String(400), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", Instant, nullable=False),
    Column("until", Instant),
)

audit = Table(
    "audit",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", Instant, nullable=False, index=True),
    Column("person", String(64), nullable=False, index=True),
    Column("action", String(64), nullable=False),
    Column("subject", String(400), nullable=False),
    Column("address", String(100), nullable=False),
    Column("detail", JSON, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("person", String(64), nullable=False),
    Column("door", String(32), nullable=False),
    Column("model", String(200), nullable=False),
    Column("subject", String(64)),
    Column("requests", Integer, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("money", Float, nullable=False),
    Index(None, "person", "at"),
)
"""What was used, through whichever door: web, shell, api, run."""

quotas = Table(
    "quotas",
    metadata,
    Column("person", String(64), primary_key=True),
    Column("period", String(16), primary_key=True),
    Column("requests", Integer),
    Column("tokens", Integer),
    Column("money", Float),
)
"""Most per `day` or `month` (UTC). `person` "" holds for all who have none of their own."""

person_models = Table(
    "person_models",
    metadata,
    Column("person", String(64), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("mode", String(32)),
    Column("settings", JSON, nullable=False),
    Column("updated", Instant, nullable=False),
)
"""Generation settings: of a person and a model together. `mode`: a named decoding mode."""

folders = Table(
    "folders",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("parent", String(64)),
    Column("created", Instant, nullable=False),
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("title", String(500), nullable=False),
    Column("titled_by", String(16), nullable=False),
    Column("folder", ForeignKey("folders.id", ondelete="SET NULL")),
    Column("tags", JSON, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("model", String(200)),
    Column("system", Text, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("head", String(64)),
    Column("document_title", String(500)),
    Column("drive_folder", String(500)),
    Column("source", String(200)),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
    Index(None, "owner", "updated"),
    UniqueConstraint("owner", "source"),
)
"""`head`: the last message of the branch that is shown. `titled_by`: "", model or person.
`source`: what it was imported from, so that importing again makes no second one."""

messages = Table(
    "messages",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column(
        "conversation",
        ForeignKey("conversations.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("parent", String(64), index=True),
    Column("role", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("reasoning", Text, nullable=False),
    Column("parts", JSON, nullable=False),
    Column("author", String(64), nullable=False),
    Column("door", String(32), nullable=False),
    Column("model", String(200)),
    Column("sent", JSON),
    Column("finish", String(64)),
    Column("error", Text),
    Column("usage", JSON),
    Column("timing", JSON),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
)
"""A node of a conversation's tree, never changed once it is done: an edit is a sibling.
`number`: for full-text search, which knows a message by its row.

`role`: system, user, assistant, tool. `state`: done, waiting, answering, stopped, failed,
interrupted. `parts`: attachments, tool calls and their results, a structured answer.
`sent`: what made the request, so that it can be shown exactly."""

attachments = Table(
    "attachments",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False, index=True),
    Column("conversation", String(64), index=True),
    Column("name", String(500), nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("size", Integer, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("text", Text),
    Column("created", Instant, nullable=False),
)
"""The bytes lie in storage under `attachments/<id>`."""

shares = Table(
    "shares",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("owner", String(64), nullable=False),
    Column(
        "conversation",
        ForeignKey("conversations.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("head", String(64), nullable=False),
    Column("created", Instant, nullable=False),
    Column("revoked", Instant),
)
"""Read-only links to a branch as it was when it was shared."""

feedback = Table(
    "feedback",
    metadata,
    Column("message", ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    Column("person", String(64), primary_key=True),
    Column("score", Integer, nullable=False),
    Column("reason", String(100)),
    Column("comment", Text),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
)

preferences = Table(
    "preferences",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False, index=True),
    Column(
        "conversation",
        ForeignKey("conversations.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("prompt", String(64), nullable=False),
    Column("chosen", String(64), nullable=False),
    Column("rejected", JSON, nullable=False),
    Column("created", Instant, nullable=False),
)
"""Of several answers to one message, the better one."""

tool_servers = Table(
    "tool_servers",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("transport", String(16), nullable=False),
    Column("target", String(2000), nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("sealed", LargeBinary),
    Column("trusted", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created", Instant, nullable=False),
)
"""MCP servers that an admin allows. `transport`: stdio or http. `sealed`: their secrets."""

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("name", String(500), nullable=False),
    Column("purpose", String(50), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("place", String(500), nullable=False),
    Column("created", Instant, nullable=False),
    Index(None, "owner", "created"),
)

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("file", String(64), nullable=False),
    Column("endpoint", String(100), nullable=False),
    Column("state", String(32), nullable=False),
    Column("dataset", String(200)),
    Column("source", String(200)),
    Column("priority", Integer, nullable=False),
    Column("options", JSON, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("errors", JSON, nullable=False),
    Column("times", JSON, nullable=False),
    Column("output", String(64)),
    Column("failures", String(64)),
    Column("once", String(200)),
    Column("digest", String(64), nullable=False),
    Column("created", Instant, nullable=False),
    Column("expires", Instant, nullable=False),
    Column("plan", JSON),
    UniqueConstraint("owner", "once"),
    Index(None, "owner", "created"),
)
"""`plan`: what consumers need to answer it, without any secret; NULL where this process does."""

blocks = Table(
    "blocks",
    metadata,
    Column("batch", String(64), ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("offset", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("models", JSON, nullable=False),
    Column("bad", JSON, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("counts", JSON, nullable=False),
    Column("ended", Instant),
    Column("queue", String(200)),
    Column("published", Instant),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("holder", String(200)),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("lease_until", Instant),
    Column("dead", Text),
)
"""The outbox of the queues too: a block with a `queue` and without `published` is to be sent there.

attempts: how often it was taken.  dead: why nobody takes it any more.
"""

grants = Table(
    "grants",
    metadata,
    Column("batch", String(64), ForeignKey("batches.id", ondelete="CASCADE"), primary_key=True),
    Column("holder", String(200), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("money", Float, nullable=False),
    Column("until", Instant, nullable=False),
)
"""What a holder of blocks may still spend of a batch's budget and its owner's quotas."""

workers = Table(
    "workers",
    metadata,
    Column("id", String(200), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("started", Instant, nullable=False),
    Column("seen", Instant, nullable=False, index=True),
    Column("detail", JSON, nullable=False),
)
"""Processes that work on blocks and jobs. `kind`: consumer or worker."""
