"""One queue in front of many workers: who runs where, in which order, and what each client hears of it.

Reading guide: `core/` decides and is pure (events and `now` in, decisions out); `service.py` is the gRPC service that
clients see; `shell.py` is the one task that owns the core; `worker_link.py` and `predictor_link.py` are the streams to
the others.
"""
