"""Durable jobs: files of requests that run as best-effort work until every line has an outcome on disk.

Reading guide: `line_format.py` says what a line may hold, `reading.py` takes a file in pieces; `service.py` is what
clients see; `runner.py` decides which lines are in flight, `carrying.py` sees one line through to its result,
`door.py` is the way into the scheduler, `recorder.py` puts results on disk together; `office.py` owns the journal
and all of these.
"""
