"""Finished steps, and the proof that they can be reused."""
