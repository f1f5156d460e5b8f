"""How the service is: status, metrics, logs, and word to systemd."""
