"""Base modules without dependencies on other packages: errors, settings, files, results."""
