"""Tables: reading, cleaning and describing them. Pure functions."""
