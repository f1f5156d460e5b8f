"""Vector indices by day, the catalogue of what they hold, and how they are kept whole."""
