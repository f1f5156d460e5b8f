"""Measures how well the encoders and the search do, on the shipped flows and with fixed seeds."""
