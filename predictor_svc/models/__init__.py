"""Trained parts of the predictors: arrays in, quantiles of the tokens left out; NumPy only, no text, no sockets.

Read first `base` (the interface and its file format), then `levels` (quantile arithmetic) and `recalibration` (what
makes the intervals honest). `location` and `trees` are the parts that `ensemble`, `forest` and `rank` are made from;
`retrieval` keeps its examples. Fitting them is in `predictor_svc.training`.
"""
