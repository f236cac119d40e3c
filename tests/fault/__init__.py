"""Faults at every point: the real services in virtual time on a network in memory, and live processes that are killed.

Reading guide. In virtual time: `virtual_time.py` is an event loop whose clock leaps to the next thing due, and nodes
(processes) on it that can be stopped, frozen and thawed; `memory_grpc.py` is grpc.aio without sockets (its two halves
beside it), on `network.py`, whose links can be cut; `cluster.py` starts the real scheduler, workers and predictor on
them; `clients.py` asks and remembers what came; `faults.py` is what goes wrong; `invariants.py` and `promises.py` are
what must hold all the same; `world.py` is one seed, `chaos.py` runs many. Live: `live_suite.py` starts processes,
`job_load.py` and `chaos_live.py` load and kill them, `soak.py` and `fuzz.py` wear them down.
"""
