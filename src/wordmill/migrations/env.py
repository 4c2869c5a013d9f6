"""Runs the migrations in the transaction that `upgrade` opened."""

from alembic import context

from wordmill.database import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,  # ours is already open, and ends after the last migration
)
context.run_migrations()
