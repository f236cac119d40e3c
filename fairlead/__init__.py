"""What the services share and what a user imports.

Reading guide: `client.py` is what an application uses; `config/` states every setting and its default once;
`rpc.py` makes servers, channels and typed refusals; `lengths.py` is the length distribution that everything turns on;
`v1/` holds the stubs made from `protos/`; `cli/` is the command line.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fairlead")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.0.0"
