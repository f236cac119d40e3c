"""`fairlead-probe`: asks one server's gRPC health service, for health checks of containers.

It imports gRPC alone, since it runs every few seconds for as long as a container lives.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

EXIT_HEALTHY = 0
EXIT_UNHEALTHY = 1


def probe(address: str, service: str, timeout_s: float) -> str:
    """What keeps `service` (full name; "" is the whole server) at host:port from serving; "" where it serves."""
    with grpc.insecure_channel(address) as channel:
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
    given = parser.parse_args()
    problem = probe(given.address, given.service, given.timeout_s)
    print(problem or "serving")
    sys.exit(EXIT_UNHEALTHY if problem else EXIT_HEALTHY)


if __name__ == "__main__":
    main()
