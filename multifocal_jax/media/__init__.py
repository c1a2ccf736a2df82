"""Photographs, animations and videos: read, de-rained and written so that nothing is lost."""
