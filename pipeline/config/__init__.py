"""The configuration: its schema, checks and overrides, and the Hydra job."""
