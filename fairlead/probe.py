"""`fairlead-probe`: asks one server's gRPC health service, for health checks of containers.

It imports gRPC alone, since it runs every few seconds for as long as a container lives.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

EXIT_HEALTHY = 0
EXIT_UNHEALTHY = 1


@dataclass(frozen=True)
class ProbeTls:
    """How a server is believed.

    Attributes:
        ca: PEM file of the CAs to believe; None: those that gRPC brings along.
        certificate, key: PEM files of what is shown; None: nothing.
        server_name: name that the server's certificate must carry, if not that of the address.
    """

    ca: Path | None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> ProbeTls:
        """`ca.crt`, `tls.crt` and `tls.key` of a service's own folder: it asks itself."""
        return cls(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")

    def channel(self, address: str) -> grpc.Channel:
        """A connection that believes the CA alone. Raises OSError where a file can't be read."""
        ca, key, certificate = (path.read_bytes() if path else None for path in (self.ca, self.key, self.certificate))
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        options = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return grpc.secure_channel(address, credentials, options=options)


def probe(address: str, service: str, timeout_s: float, tls: ProbeTls | None = None) -> str:
    """What keeps `service` (full name; "" is the whole server) at host:port from serving; "" where it serves."""
    try:
        channel = tls.channel(address) if tls else grpc.insecure_channel(address)
    except OSError as error:
        return f"{error.filename} can't be read ({error.strerror})"
    with channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # has no types
        try:
            found = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            status: grpc.Call = error  # pyright: ignore[reportAssignmentType]  (a failed call is both)
            if status.code() is grpc.StatusCode.NOT_FOUND:
                return f"{address} has no service {service!r}"
            return f"{address} does not answer: {status.code().name} {status.details() or ''}".rstrip()
    state = health_pb2.HealthCheckResponse.ServingStatus.Name(found.status)
    return "" if found.status == health_pb2.HealthCheckResponse.SERVING else f"{service or address} is {state}"


def main() -> None:
    """Entry point: exit status 0 where the service serves, else 1 and one line that says why."""
    parser = argparse.ArgumentParser(
        prog="fairlead-probe",
        description="Asks a server's gRPC health service; exit status 0 where it serves.",
        epilog="fairlead-probe 127.0.0.1:7600 --service fairlead.v1.InferenceService  (serves once a worker is there)",
    )
    parser.add_argument("address", help="host:port")
    parser.add_argument("--service", default="", help="full name of a service; default: the whole server")
    parser.add_argument("--timeout-s", type=float, default=3.0, help="longest wait for the answer, s (%(default)s)")
    parser.add_argument(
        "--certs", type=Path, default=_from("FAIRLEAD_PROBE_CERTS"),
        help="folder of a service's own tls.crt, tls.key and ca.crt; FAIRLEAD_PROBE_CERTS too",
    )  # fmt: skip
    parser.add_argument("--ca", type=Path, default=_from("FAIRLEAD_CA"), help="CA of its certificate; FAIRLEAD_CA too")
    parser.add_argument("--cert", type=Path, default=_from("FAIRLEAD_CERT"), help="certificate to show, and its key:")
    parser.add_argument("--cert-key", type=Path, default=_from("FAIRLEAD_CERT_KEY"), help="FAIRLEAD_CERT_KEY too")
    parser.add_argument("--server-name", help="name in the server's certificate, if not that of the address")
    given = parser.parse_args()
    tls = ProbeTls.in_folder(given.certs) if given.certs else None
    if tls is None and given.ca is not None:
        tls = ProbeTls(given.ca, given.cert, given.cert_key, given.server_name)
    problem = probe(given.address, given.service, given.timeout_s, tls)
    print(problem or "serving")
    sys.exit(EXIT_UNHEALTHY if problem else EXIT_HEALTHY)


def _from(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


if __name__ == "__main__":
    main()
