"""The app that shows the models in use: ``make app``."""
