"""`make report`: every policy on your traffic, in virtual time, as a report that is quick to read.

Reading guide: `plan.py` says what is run, `work.py` does it (in several processes; finished runs are kept in
`store.py`, so that it can be broken off and taken up again), `table.py` holds the figures as means over seeds,
`findings.py` draws conclusions from them, `pages.py` and `plots.py` write them down.
"""
