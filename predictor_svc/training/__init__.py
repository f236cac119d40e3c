"""Fitting and judging the encoder predictor's head from recorded answers."""
