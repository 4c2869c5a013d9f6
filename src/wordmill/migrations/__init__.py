"""How the database's schema came to be what it is (Alembic)."""
