"""The app for models in production, started by ``make app``."""
