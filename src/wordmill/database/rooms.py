"""The tables of channels into chat rooms, beside those of `tables`."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from wordmill.database.tables import Instant, metadata

channels = Table(
    "channels",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("options", JSON, nullable=False),
    Column("sealed", LargeBinary),
    Column("memory", LargeBinary),
    Column("enabled", Boolean, nullable=False),
    Column("status", JSON, nullable=False),
    Column("marker", Instant),
    Column("holder", String(200)),
    Column("lease_until", Instant),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
)
"""Accounts at chat services. `sealed`: their secrets. `memory`: what they keep between starts.

marker: by the service's clock, up to when everything was heard.  holder: the process that runs it.
"""

channel_places = Table(
    "channel_places",
    metadata,
    Column("channel", ForeignKey("channels.name", ondelete="CASCADE"), primary_key=True),
    Column("place", String(600), primary_key=True),
    Column("conversation", String(64), nullable=False),
    Column("person", String(64), nullable=False),
    Column("updated", Instant, nullable=False),
)
"""Which conversation is led in a room or thread, and whose it is."""

channel_events = Table(
    "channel_events",
    metadata,
    Column("channel", ForeignKey("channels.name", ondelete="CASCADE"), primary_key=True),
    Column("event", String(300), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("payload", JSON),
    Column("at", Instant, nullable=False),
    Column("received", Instant, nullable=False),
    Column("message", String(64)),
    Index(None, "channel", "state"),
    Index(None, "received"),
)
"""What was heard. `state`: received or handled; `payload` only until then. `message`: it became."""

channel_answers = Table(
    "channel_answers",
    metadata,
    Column("channel", ForeignKey("channels.name", ondelete="CASCADE"), primary_key=True),
    Column("event", String(300), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("place", String(600), nullable=False),
    Column("person", String(64), nullable=False),
    Column("conversation", String(64)),
    Column("message", String(64), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("begun", Integer, nullable=False),
    Column("remotes", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
    Index(None, "channel", "state"),
    Index(None, "channel", "place"),
)
"""What is to be said in a room: written down before it is said, under a name that stays (`nonce`).

kind: answer, or report of long work.  message: of the conversation, or what is reported on.
begun: messages that are shown already while it grows.  remotes: the service's ids of them all.
"""
