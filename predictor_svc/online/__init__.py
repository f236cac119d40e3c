"""What a running predictor learns about itself from outcomes.

Read `correction.py` first (where truths fell in the laws that were told, and the correction made of it), then
`contest.py` (is it better than `history`?), `pending.py` (which law was told for which answer) and `state.py` (the file
that keeps what was learned). `predictor_svc.calibration` puts them round a predictor.
"""
