"""``python -m pipeline init``: inspects a table and writes its data set's configuration."""
