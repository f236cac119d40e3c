"""Accepted work on disk: SQLite by default, PostgreSQL by one setting. Accepted means committed here.

Reading guide: `tables.py` is the schema as it is now, `migrations/` how it came to be (Alembic); `database.py` opens
either database and tells their errors apart; `ownership.py` keeps a second scheduler out; `records.py` is what goes
in and comes out; `journal.py` is what can be done with it.
"""
