"""Inspects a fitted model: its errors, intervals, features and report."""
