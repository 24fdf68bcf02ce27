"""Addresses of data sets, and the formats of their files."""
