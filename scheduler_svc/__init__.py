"""One queue in front of many workers: who runs where, in which order, and what each client hears of it.

Reading guide. `core/` decides and is pure: events and `now` in, decisions out. The rest is the shell round it:

- `shell.py` owns the core: events in as they happen, one tick for all of a turn, decisions out;
- `service.py` is what clients see: `auth.py`, `validation.py`, `intake.py` on the way in; `requests.py`, `answer.py`,
  `streams.py` and `outcome.py` on the way out; `admin.py` is what operators see;
- `worker_pool.py` finds workers, `worker_link.py` is the connection to one, `executions.py` what runs there,
  `outbox.py` the commands on their way; `predictor_link.py` is the connection to the predictor;
- `jobs/` are files of requests that run without their clients, `journal/` is where they lie on disk;
- `epoch.py` keeps the leadership epoch, `wire.py` translates, `host.py` puts it all together.
"""
