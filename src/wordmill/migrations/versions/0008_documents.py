"""Documents: Google Drives that people have connected, and how their documents look."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    time = sa.DateTime(timezone=True)
    op.create_table(
        "drives",
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.String(320), nullable=False),
        sa.Column("home", sa.String(200)),
        sa.Column("created", time, nullable=False),
        sa.Column("ended", time),
        sa.PrimaryKeyConstraint("person", name="pk_drives"),
    )
    op.create_table(
        "document_choices",
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("folder", sa.String(200)),
        sa.Column("folder_name", sa.String(500)),
        sa.Column("updated", time, nullable=False),
        sa.PrimaryKeyConstraint("person", name="pk_document_choices"),
    )


def downgrade() -> None:
    op.drop_table("document_choices")
    op.drop_table("drives")
