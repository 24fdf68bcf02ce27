"""``python -m pipeline init``: looks at a table and writes its data set's configuration."""
