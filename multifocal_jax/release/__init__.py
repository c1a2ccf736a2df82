"""Releases weights: from a training's workdir to a packaged file with its scores, and its model card."""
