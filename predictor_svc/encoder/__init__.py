"""A sentence encoder for a CPU: weights found, checked, turned into a quantised graph once, and asked in batches."""
