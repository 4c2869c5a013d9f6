"""Wordmill: talk to language models, make datasets with them, review and export."""
