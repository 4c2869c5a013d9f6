"""Models on this machine, and the tokens for the hub that they come from."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "local_models",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("form", sa.String(16), nullable=False),
        sa.Column("path", sa.String(4000), nullable=False),
        sa.Column("repository", sa.String(200), nullable=False),
        sa.Column("revision", sa.String(64), nullable=False),
        sa.Column("follows", sa.String(100), nullable=False),
        sa.Column("license", sa.String(200), nullable=False),
        sa.Column("engine", sa.String(32)),
        sa.Column("device", sa.String(64)),
        sa.Column("dtype", sa.String(16)),
        sa.Column("threads", sa.Integer()),
        sa.Column("context", sa.Integer()),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("remote_code", sa.Boolean(), nullable=False),
        sa.Column("made_from", sa.String(200), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("quality", sa.JSON(), nullable=False),
        sa.Column("earlier", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_local_models"),
    )
    op.create_table(
        "hub_tokens",
        sa.Column("hub", sa.String(2000), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("hub", name="pk_hub_tokens"),
    )


def downgrade() -> None:
    op.drop_table("hub_tokens")
    op.drop_table("local_models")
