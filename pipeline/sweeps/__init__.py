"""Sweeps: many trials as one run, and their tuning."""
