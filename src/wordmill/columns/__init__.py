"""Columns: what a recipe makes."""
