"""HTTP: health, metrics and the same questions, in a process of its own."""
