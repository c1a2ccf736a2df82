"""Metrics, inference on whole pictures and tiles, reports."""
