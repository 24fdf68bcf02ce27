"""What everything else builds on: errors, settings, files, results."""
