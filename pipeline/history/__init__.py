"""Runs that were made: log, compare, reproduce, checkout."""
