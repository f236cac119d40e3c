"""Virtual time: the real scheduler core and the real step order on simulated workers, with a network and faults.

The code that decides here is the code that serves: `SchedulerCore` and `plan_step` are called, never imitated. One
seed repeats a run exactly, byte for byte of its decision log (I9).

Reading guide: `world.py` is the virtual-time shell round the core; `worker.py` one worker in it and `engine.py` its
engine, which leaps over runs of steps that plan the same; `predictor.py` answers with a stated quality (`quality.py`
finds the noise for it). `workload.py` says who asks what and when, `policies.py` reads `name@key=value`, `run.py` puts
one run together, `figures.py` turns it into rows, and `study.py` does many runs on several processes. What a live
scheduler recorded is read by `decision_log.py`, checked by `verify.py` (I9), made a workload by `recorded.py` and given
to other policies by `from_log.py`.
"""
