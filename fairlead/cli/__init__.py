"""The command line: `main.py` is the root, one file a command; nothing here imports a service or torch."""
