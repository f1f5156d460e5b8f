"""Turns a closed day of events into rows of vectors for the three indices."""
