"""The science of the steps: pure functions on tables and models."""
