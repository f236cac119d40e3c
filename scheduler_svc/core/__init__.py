"""The pure part: no gRPC, asyncio, clock, file or random source. The service and the simulator are shells round it.

Reading guide: `types.py` holds the events that go in and the decisions that come out; `scheduler.py` is the machine
(`handle(event, now_ms)`, `tick(now_ms)`); `backlog.py` keeps what waits in order; `policies/` says what the order is;
`placement.py` picks the worker; `memory.py` says whether its KV cache will hold; `priors.py` is the length distribution
where there is no prediction; `ledger.py` counts every request into exactly one outcome.
"""
