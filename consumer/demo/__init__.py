"""A whole deployment on one machine: registry, detector stand-in, service."""
