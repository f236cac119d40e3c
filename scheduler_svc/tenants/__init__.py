"""Who the tenants are: from the configuration, the tenants file and the admin service, changed without a restart.

Reading guide. `entries.py` is a tenant as it is in force; `merging.py` makes all of them from their sources;
`registry.py` holds them and finds them by key or certificate. `store.py` keeps what operators changed, `changes.py`
makes such a change, `audit.py` writes down who did; `watching.py` reads the tenants file again. `usage.py` counts what
each tenant used, `usage_store.py` keeps it. `wire.py` and `rpcs.py` are the admin service's part; `opening.py` puts all
of it together.
"""
