"""Batches on queues: blocks that are published, taken and granted a budget; who works on them."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("batches", sa.Column("plan", sa.JSON()))
    with op.batch_alter_table("blocks") as table:
        table.add_column(sa.Column("queue", sa.String(200)))
        table.add_column(sa.Column("published", sa.DateTime(timezone=True)))
        table.add_column(sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("holder", sa.String(200)))
        table.add_column(sa.Column("fence", sa.Integer(), nullable=False, server_default="0"))
        table.add_column(sa.Column("lease_until", sa.DateTime(timezone=True)))
        table.add_column(sa.Column("dead", sa.Text()))
    op.create_table(
        "grants",
        sa.Column("batch", sa.String(64), nullable=False),
        sa.Column("holder", sa.String(200), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("money", sa.Float(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("batch", "holder", name="pk_grants"),
        sa.ForeignKeyConstraint(
            ["batch"], ["batches.id"], name="fk_grants_batch", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_index("ix_workers_seen", "workers", ["seen"])


def downgrade() -> None:
    op.drop_table("workers")
    op.drop_table("grants")
    for name in ("dead", "lease_until", "fence", "holder", "attempts", "published", "queue"):
        op.drop_column("blocks", name)
    op.drop_column("batches", "plan")
