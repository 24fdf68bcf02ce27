"""Reports as HTML, figures as PNG and SVG, and tables for commands."""
