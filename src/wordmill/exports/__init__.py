"""Exports: how data leaves."""
