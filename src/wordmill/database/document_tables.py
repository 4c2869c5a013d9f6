"""The tables of documents: where they go, and how they look."""

from sqlalchemy import JSON, Column, LargeBinary, String, Table

from wordmill.database.tables import Instant, metadata

drives = Table(
    "drives",
    metadata,
    Column("person", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("account", String(320), nullable=False),
    Column("home", String(200)),
    Column("created", Instant, nullable=False),
    Column("ended", Instant),
)
"""Google Drives that people have connected. `sealed`: the refresh token.

home: the folder that was made there for documents.  ended: when Google took the token back.
"""

document_choices = Table(
    "document_choices",
    metadata,
    Column("person", String(64), primary_key=True),
    Column("choices", JSON, nullable=False),
    Column("folder", String(200)),
    Column("folder_name", String(500)),
    Column("updated", Instant, nullable=False),
)
"""How somebody's documents look. `folder`: of Google Drive, where they go; None for none."""
