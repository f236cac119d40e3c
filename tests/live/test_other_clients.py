"""The clients in Go and Java, generated from the contract and built with Debian's own packages, where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.foreign_client import Example, build, check_mutual_tls, check_streams_cancels_and_reads_refusals
from tests.requirements import lacking

pytestmark = pytest.mark.live
NEEDS = {
    "go": (
        ("/usr/bin/go", "/usr/bin/protoc", "/usr/bin/protoc-gen-go", "/usr/bin/protoc-gen-go-grpc",
         "/usr/share/gocode/src/google.golang.org/grpc", "/usr/share/gocode/src/google.golang.org/protobuf"),
        ("./example",),
    ),
    "java": (
        ("/usr/bin/javac", "/usr/bin/protoc", "/usr/bin/grpc_java_plugin", "/usr/share/java/grpc-netty.jar",
         "/usr/share/java/netty-codec-http2.jar", "/usr/share/java/perfmark-api.jar"),
        ("bash", "-c", 'exec java -cp "$(./classpath.sh)" Example'),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=NEEDS)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Example:
    needed, command = NEEDS[request.param]
    missing = [path for path in needed if not Path(path).exists()]
    if missing:
        lacking(request.param, f"{missing[0]} is not there: examples/{request.param}/build.sh names the packages")
    return Example(build(request.param, tmp_path_factory.mktemp(request.param), ("./build.sh",)), command)


async def test_example_streams_cancels_and_reads_typed_refusals(example: Example, tmp_path: Path) -> None:
    await check_streams_cancels_and_reads_refusals(example, tmp_path)


async def test_example_over_mutual_tls(example: Example, tmp_path: Path) -> None:
    if example.command == NEEDS["java"][1]:
        pytest.skip("Debian 12's netty was built without ALPN, which HTTP/2 over TLS needs; Maven's has it")
    await check_mutual_tls(example, tmp_path)
