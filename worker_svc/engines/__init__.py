"""Engines: one small interface (`base.py`), real vLLM and a simulated one."""
