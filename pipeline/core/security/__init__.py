"""Keeps secrets out of records, and runs no program that others have changed."""
