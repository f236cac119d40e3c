"""What the suite costs and gains, measured side by side; each module is a command (`python -m bench.NAME --help`)."""
