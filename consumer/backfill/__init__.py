"""Backfill: the past, from a detector's log files, artifacts and recordings."""
