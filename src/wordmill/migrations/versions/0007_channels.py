"""Channels into chat rooms: the accounts, their places, what was heard and what is to be said."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "channels",
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("sealed", sa.LargeBinary()),
        sa.Column("memory", sa.LargeBinary()),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("status", sa.JSON(), nullable=False),
        sa.Column("marker", time),
        sa.Column("holder", sa.String(200)),
        sa.Column("lease_until", time),
        sa.Column("created", time, nullable=False),
        sa.Column("updated", time, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_channels"),
    )
    op.create_table(
        "channel_places",
        sa.Column("channel", sa.String(100), nullable=False),
        sa.Column("place", sa.String(600), nullable=False),
        sa.Column("conversation", sa.String(64), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("updated", time, nullable=False),
        sa.PrimaryKeyConstraint("channel", "place", name="pk_channel_places"),
        _of_a_channel("channel_places"),
    )
    op.create_table(
        "channel_events",
        sa.Column("channel", sa.String(100), nullable=False),
        sa.Column("event", sa.String(300), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("payload", sa.JSON()),
        sa.Column("at", time, nullable=False),
        sa.Column("received", time, nullable=False),
        sa.Column("message", sa.String(64)),
        sa.PrimaryKeyConstraint("channel", "event", name="pk_channel_events"),
        _of_a_channel("channel_events"),
    )
    op.create_index("ix_channel_events_channel_state", "channel_events", ["channel", "state"])
    op.create_index("ix_channel_events_received", "channel_events", ["received"])
    op.create_table(
        "channel_answers",
        sa.Column("channel", sa.String(100), nullable=False),
        sa.Column("event", sa.String(300), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("place", sa.String(600), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("conversation", sa.String(64)),
        sa.Column("message", sa.String(64), nullable=False),
        sa.Column("nonce", sa.String(64), nullable=False),
        sa.Column("begun", sa.Integer(), nullable=False),
        sa.Column("remotes", sa.JSON(), nullable=False),
        sa.Column("created", time, nullable=False),
        sa.Column("updated", time, nullable=False),
        sa.PrimaryKeyConstraint("channel", "event", name="pk_channel_answers"),
        _of_a_channel("channel_answers"),
    )
    for column in ("state", "place"):
        op.create_index(
            f"ix_channel_answers_channel_{column}", "channel_answers", ["channel", column]
        )


def downgrade() -> None:
    for name in ("channel_answers", "channel_events", "channel_places", "channels"):
        op.drop_table(name)


def _of_a_channel(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["channel"], ["channels.name"], name=f"fk_{table}_channel", ondelete="CASCADE"
    )
