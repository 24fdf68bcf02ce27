"""W&B as a tracker, and its SDK."""
