"""People, conversations, keys, quotas, and the search in what was said."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# SQLite: a table of its own, kept in step by triggers; not while an answer still grows.
FTS5 = (
    """CREATE VIRTUAL TABLE messages_fts USING fts5(
        text, content='messages', content_rowid='number', tokenize='unicode61 remove_diacritics 2'
    )""",
    """CREATE TRIGGER messages_fts_insert AFTER INSERT ON messages WHEN new.state <> 'answering'
    BEGIN INSERT INTO messages_fts (rowid, text) VALUES (new.number, new.text); END""",
    """CREATE TRIGGER messages_fts_delete AFTER DELETE ON messages WHEN old.state <> 'answering'
    BEGIN INSERT INTO messages_fts (messages_fts, rowid, text)
    VALUES ('delete', old.number, old.text); END""",
    """CREATE TRIGGER messages_fts_forget AFTER UPDATE OF text, state ON messages
    WHEN old.state <> 'answering'
    BEGIN INSERT INTO messages_fts (messages_fts, rowid, text)
    VALUES ('delete', old.number, old.text); END""",
    """CREATE TRIGGER messages_fts_learn AFTER UPDATE OF text, state ON messages
    WHEN new.state <> 'answering'
    BEGIN INSERT INTO messages_fts (rowid, text) VALUES (new.number, new.text); END""",
)
# PostgreSQL: a column, empty while an answer still grows; accents are taken off, as FTS5 does.
# A tsvector holds a megabyte at most: 100,000 characters fit in whatever they are.
TSVECTOR = (
    r"""ALTER TABLE messages ADD COLUMN search tsvector
    GENERATED ALWAYS AS (CASE WHEN state <> 'answering' THEN to_tsvector('simple', normalize(
        regexp_replace(normalize(left(text, 100000), NFD), '[\u0300-\u036f]', '', 'g'), NFC
    )) END) STORED""",
    "CREATE INDEX ix_messages_search ON messages USING gin (search)",
)


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("subject", sa.String(64)))
        jobs.add_column(sa.Column("worker", sa.String(200)))
        jobs.add_column(sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
        jobs.add_column(
            sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false())
        )
        jobs.add_column(sa.Column("error", sa.Text))
        jobs.add_column(sa.Column("once", sa.String(200)))
        jobs.create_unique_constraint("uq_jobs_owner_once", ["owner", "once"])
        jobs.create_index("ix_jobs_owner_created", ["owner", "created"])
        jobs.create_index("ix_jobs_subject", ["subject"])
    op.create_table(
        "attachments",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("conversation", sa.String(64)),
        sa.Column("name", sa.String(500), nullable=False),
        sa.Column("media_type", sa.String(200), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attachments"),
    )
    op.create_index("ix_attachments_owner", "attachments", ["owner"])
    op.create_index("ix_attachments_conversation", "attachments", ["conversation"])
    op.create_table(
        "audit",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("address", sa.String(100), nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_person", "audit", ["person"])
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "codes",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("person", sa.String(64)),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("digest", name="pk_codes"),
    )
    op.create_table(
        "folders",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("parent", sa.String(64)),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_folders"),
    )
    op.create_index("ix_folders_owner", "folders", ["owner"])
    op.create_table(
        "ledger",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("door", sa.String(32), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("subject", sa.String(64)),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("money", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
    )
    op.create_index("ix_ledger_person_at", "ledger", ["person", "at"])
    op.create_table(
        "people",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password", sa.String(500)),
        sa.Column("language", sa.String(16)),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_people"),
        sa.UniqueConstraint("email", name="uq_people_email"),
    )
    op.create_table(
        "person_models",
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("mode", sa.String(32)),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("person", "model", name="pk_person_models"),
    )
    op.create_table(
        "provider_keys",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "model", name="pk_provider_keys"),
    )
    op.create_table(
        "quotas",
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("requests", sa.Integer),
        sa.Column("tokens", sa.Integer),
        sa.Column("money", sa.Float),
        sa.PrimaryKeyConstraint("person", "period", name="pk_quotas"),
    )
    op.create_table(
        "throttles",
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("key", name="pk_throttles"),
    )
    op.create_table(
        "tool_servers",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("transport", sa.String(16), nullable=False),
        sa.Column("target", sa.String(2000), nullable=False),
        sa.Column("arguments", sa.JSON, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("trusted", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_tool_servers"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("start", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True)),
        sa.Column("used", sa.DateTime(timezone=True)),
        sa.Column("revoked", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.ForeignKeyConstraint(
            ["person"],
            ["people.id"],
            name="fk_api_keys_person",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_index("ix_api_keys_person", "api_keys", ["person"])
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("title", sa.String(500), nullable=False),
        sa.Column("titled_by", sa.String(16), nullable=False),
        sa.Column("folder", sa.String(64)),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("model", sa.String(200)),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("head", sa.String(64)),
        sa.Column("document_title", sa.String(500)),
        sa.Column("drive_folder", sa.String(500)),
        sa.Column("source", sa.String(200)),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
        sa.UniqueConstraint("owner", "source", name="uq_conversations_owner_source"),
        sa.ForeignKeyConstraint(
            ["folder"],
            ["folders.id"],
            name="fk_conversations_folder",
            ondelete="SET NULL",
        ),
    )
    op.create_index("ix_conversations_owner_updated", "conversations", ["owner", "updated"])
    op.create_table(
        "identities",
        sa.Column("provider", sa.String(300), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("provider", "subject", name="pk_identities"),
        sa.ForeignKeyConstraint(
            ["person"],
            ["people.id"],
            name="fk_identities_person",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_identities_person", "identities", ["person"])
    op.create_table(
        "sessions",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("address", sa.String(100), nullable=False),
        sa.Column("agent", sa.String(500), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("digest", name="pk_sessions"),
        sa.ForeignKeyConstraint(
            ["person"],
            ["people.id"],
            name="fk_sessions_person",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_sessions_person", "sessions", ["person"])
    op.create_table(
        "messages",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("conversation", sa.String(64), nullable=False),
        sa.Column("parent", sa.String(64)),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("reasoning", sa.Text, nullable=False),
        sa.Column("parts", sa.JSON, nullable=False),
        sa.Column("author", sa.String(64), nullable=False),
        sa.Column("door", sa.String(32), nullable=False),
        sa.Column("model", sa.String(200)),
        sa.Column("sent", sa.JSON),
        sa.Column("finish", sa.String(64)),
        sa.Column("error", sa.Text),
        sa.Column("usage", sa.JSON),
        sa.Column("timing", sa.JSON),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_messages"),
        sa.UniqueConstraint("id", name="uq_messages_id"),
        sa.ForeignKeyConstraint(
            ["conversation"],
            ["conversations.id"],
            name="fk_messages_conversation",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_messages_parent", "messages", ["parent"])
    op.create_index("ix_messages_conversation", "messages", ["conversation"])
    op.create_table(
        "preferences",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("conversation", sa.String(64), nullable=False),
        sa.Column("prompt", sa.String(64), nullable=False),
        sa.Column("chosen", sa.String(64), nullable=False),
        sa.Column("rejected", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_preferences"),
        sa.ForeignKeyConstraint(
            ["conversation"],
            ["conversations.id"],
            name="fk_preferences_conversation",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_preferences_conversation", "preferences", ["conversation"])
    op.create_index("ix_preferences_owner", "preferences", ["owner"])
    op.create_table(
        "shares",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("conversation", sa.String(64), nullable=False),
        sa.Column("head", sa.String(64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("digest", name="pk_shares"),
        sa.UniqueConstraint("id", name="uq_shares_id"),
        sa.ForeignKeyConstraint(
            ["conversation"],
            ["conversations.id"],
            name="fk_shares_conversation",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_shares_conversation", "shares", ["conversation"])
    op.create_table(
        "feedback",
        sa.Column("message", sa.String(64), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("score", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(100)),
        sa.Column("comment", sa.Text),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("message", "person", name="pk_feedback"),
        sa.ForeignKeyConstraint(
            ["message"],
            ["messages.id"],
            name="fk_feedback_message",
            ondelete="CASCADE",
        ),
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    for statement in TSVECTOR if postgresql else FTS5:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        op.execute("DROP TABLE messages_fts")
    op.drop_table("feedback")
    op.drop_table("shares")
    op.drop_table("preferences")
    op.drop_table("messages")
    op.drop_table("sessions")
    op.drop_table("identities")
    op.drop_table("conversations")
    op.drop_table("api_keys")
    op.drop_table("tool_servers")
    op.drop_table("throttles")
    op.drop_table("quotas")
    op.drop_table("provider_keys")
    op.drop_table("person_models")
    op.drop_table("people")
    op.drop_table("ledger")
    op.drop_table("folders")
    op.drop_table("codes")
    op.drop_table("audit")
    op.drop_table("attachments")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_index("ix_jobs_subject")
        jobs.drop_index("ix_jobs_owner_created")
        jobs.drop_constraint("uq_jobs_owner_once", type_="unique")
        for column in ("once", "error", "cancel_requested", "attempts", "worker", "subject"):
            jobs.drop_column(column)
