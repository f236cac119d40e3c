"""What it costs to have the suite in the way: the same requests through plain vLLM, vLLM's HTTP server, and the suite.

Reading guide: `__main__.py` is the command; `models.py` makes the larger model; `plan.py` says what is sent;
`stacks.py` starts the servers and pins them; `drive.py` is the client process, with one file a kind of client
(`clients.py`); `cpu.py` reads what each process used; `figures.py` and `report.py` make figures of it.
"""
