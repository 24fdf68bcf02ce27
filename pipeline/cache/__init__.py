"""The cache of finished steps, and the checks that decide about their reuse."""
