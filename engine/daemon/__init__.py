"""The process: builds every object once (worker.py), signals, systemd, reload."""
