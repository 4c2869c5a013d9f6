"""Stores: where records stay."""
