"""Attacks on a pipeline from outside: ``make attack SEED=7``; a part of each is in the tests."""
