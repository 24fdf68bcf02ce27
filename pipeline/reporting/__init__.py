"""What people read: the report as one HTML file, and a model's figures."""
