"""gRPC servers, channels and typed refusals, the same for every service.

Reading guide: `refusals.py` is how a call is refused; `server.py` binds a port, `channels.py` opens a connection, both
with TLS where it is configured; `certificates.py` reads certificates, `renewal.py` again when they are renewed;
`access.py` says who may call what, for every method of every service; `peers.py` is who the other side is,
`service_key.py` the secret between services without certificates, `tls_words.py` what a failed handshake means;
`calls.py` is for several tasks that share one streaming call.
"""

from fairlead.rpc.access import ACCESS, Gate, Role
from fairlead.rpc.calls import is_ending, together
from fairlead.rpc.channels import (
    CHANNEL_OPTIONS,
    InsecureAddress,
    Outgoing,
    Tls,
    check_plaintext,
    is_loopback,
    make_channel,
)
from fairlead.rpc.peers import certificate_names, scheduler_only
from fairlead.rpc.refusals import (
    REASONS,
    ErrorDetails,
    Refusal,
    ServicerContext,
    invalid,
    read_details,
    reason_of,
    refuse,
)
from fairlead.rpc.server import SERVER_OPTIONS, PortTaken, Server, check_listen, free_port, make_server
from fairlead.rpc.tls_words import in_plain_words

__all__ = [
    "ACCESS",
    "CHANNEL_OPTIONS",
    "REASONS",
    "SERVER_OPTIONS",
    "ErrorDetails",
    "Gate",
    "InsecureAddress",
    "Outgoing",
    "PortTaken",
    "Refusal",
    "Role",
    "Server",
    "ServicerContext",
    "Tls",
    "certificate_names",
    "check_listen",
    "check_plaintext",
    "free_port",
    "in_plain_words",
    "invalid",
    "is_ending",
    "is_loopback",
    "make_channel",
    "make_server",
    "read_details",
    "reason_of",
    "refuse",
    "scheduler_only",
    "together",
]
