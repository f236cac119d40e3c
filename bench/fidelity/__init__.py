"""Is the simulator true? The same requests on a real engine and in virtual time: `python -m bench.fidelity`.

Reading guide: `live.py` runs the suite and lets the scheduler record what happens; `recorded.py` reads that recording
into requests, predictions, step-time models and what came of each request; `again.py` simulates the same; `errors.py`
holds the two against each other, and `plots.py` draws them.
"""
