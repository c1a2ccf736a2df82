"""Command-line entry points; each parses its arguments and calls the package."""
