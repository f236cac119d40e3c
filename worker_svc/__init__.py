"""A gRPC server round one engine: it runs what the scheduler admits, in the scheduler's order, at each iteration.

Reading guide: `ordering.py` turns ranks into token quotas for one step (pure, shared by both engines);
`engines/base.py` is the small interface of an engine; `engines/vllm_engine.py` and `engines/vllm_hook.py` carry the
quotas out in real vLLM, `engines/simulated.py` in a step-time model; `service.py` is the stream to the scheduler.
"""
