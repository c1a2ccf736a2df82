"""Photographs, animations and videos: reading, de-raining and writing without loss of metadata."""
