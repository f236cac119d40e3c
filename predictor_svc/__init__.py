"""The predictor service: text in, length distribution out; it learns from outcomes."""
