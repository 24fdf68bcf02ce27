"""Records what a step reads while it runs."""
