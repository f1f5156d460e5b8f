"""The schema of the wire: our own text of it, and the modules generated from that text."""
