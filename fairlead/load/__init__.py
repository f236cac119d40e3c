"""Load for a live suite, and what came of it.

Reading guide: `plan.py` says what is sent when, `traces.py` reads it from a file, `run.py` sends it whatever the
answers do, `metrics.py` turns records into figures and `plots.py` into pictures, `measure.py` finds the idle times and
the capacity they are held against.
"""
