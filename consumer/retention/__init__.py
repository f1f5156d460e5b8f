"""Letting days go: by age and size, or because somebody asked for it."""
