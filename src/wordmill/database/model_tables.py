"""The tables of the models on this machine, and of the tokens for the hub that they come from."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    String,
    Table,
)

from wordmill.database.tables import Instant, metadata

local_models = Table(
    "local_models",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("source", String(16), nullable=False),
    Column("form", String(16), nullable=False),
    Column("path", String(4000), nullable=False),
    Column("repository", String(200), nullable=False),
    Column("revision", String(64), nullable=False),
    Column("follows", String(100), nullable=False),
    Column("license", String(200), nullable=False),
    Column("engine", String(32)),
    Column("device", String(64)),
    Column("dtype", String(16)),
    Column("threads", Integer),
    Column("context", Integer),
    Column("pinned", Boolean, nullable=False),
    Column("remote_code", Boolean, nullable=False),
    Column("made_from", String(200), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("quality", JSON, nullable=False),
    Column("earlier", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("updated", Instant, nullable=False),
)
"""Models on this machine, each whole and checked; `local_models.types` says what the columns mean.

`files`: what was chosen of the repository, so that an update chooses the same.
"""

hub_tokens = Table(
    "hub_tokens",
    metadata,
    Column("hub", String(2000), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created", Instant, nullable=False),
)
"""The token for each hub's address, encrypted."""
