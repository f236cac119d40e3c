"""Generic clients, which know the services only by reflection: one of our own, and `buf curl`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.live.scheduler_suite import running_suite

pytestmark = pytest.mark.live
KEY = (("authorization", "Bearer alice-key"),)
WITHIN_S = 20.0
SCHEDULER = {"fairlead.v1.InferenceService", "fairlead.v1.AdminService", "fairlead.v1.JobService"}
ALWAYS = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


class Generic:
    """Calls any method of any server by name; the types come from the server alone, into a pool of their own."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._known = ProtoReflectionDescriptorDatabase(self._channel)
        self._pool = DescriptorPool(self._known)

    def __enter__(self) -> Generic:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def services(self) -> set[str]:
        return set(self._known.get_services())

    def methods(self, service: str) -> dict[str, MethodDescriptor]:
        return dict(self._pool.FindServiceByName(service).methods_by_name)

    def call(self, service: str, method: str, /, **fields: Any) -> Any:
        """One request in; a message, or an iterator of messages where the method streams."""
        told = self.methods(service)[method]
        request, response = GetMessageClass(told.input_type), GetMessageClass(told.output_type)
        kind: Callable[..., Any] = self._channel.unary_stream if told.server_streaming else self._channel.unary_unary
        made = kind(
            f"/{service}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )  # fmt: skip
        return made(request(**fields), metadata=KEY, timeout=WITHIN_S)


def use_scheduler(address: str) -> None:
    with Generic(address) as client:
        assert client.services() == SCHEDULER | ALWAYS
        assert set(client.methods("fairlead.v1.InferenceService")) == {"Generate", "Attach", "Cancel", "ListModels"}
        health = client.call("grpc.health.v1.Health", "Check", service="fairlead.v1.InferenceService")
        assert health.status == 1  # SERVING
        (model,) = client.call("fairlead.v1.InferenceService", "ListModels").models
        assert (model.model, model.workers) == ("demo", 1)
        events: Iterator[Any] = client.call(
            "fairlead.v1.InferenceService", "Generate", text="hello", request_id="r", sampling={"max_tokens": 9}
        )
        told = list(events)
        kinds = [event.WhichOneof("event") for event in told]
        assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == ("accepted", {"delta"}, "finished")
        counted = sum(event.delta.token_count for event in told[1:-1])
        assert counted == told[-1].finished.usage.output_tokens > 0
        again = list(client.call("fairlead.v1.InferenceService", "Attach", request_id="r", from_token=0))
        text = "".join(event.delta.text for event in told)
        assert "".join(event.delta.text for event in again) == text
        with pytest.raises(grpc.RpcError) as refused:
            list(client.call("fairlead.v1.InferenceService", "Generate"))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def use_worker(address: str, model: str) -> None:
    with Generic(address) as client:
        assert client.services() == {"fairlead.v1.WorkerService"} | ALWAYS
        described = client.call("fairlead.v1.WorkerService", "Describe")
        assert (described.engine, described.model, described.max_held) == ("simulated", model, 256)
        tokens = client.call("fairlead.v1.WorkerService", "Tokenize", model=model, text="three words here").token_ids
        assert len(tokens) > 0


def use_predictor(address: str) -> None:
    with Generic(address) as client:
        assert client.services() == {"fairlead.v1.PredictorService"} | ALWAYS
        assert client.call("fairlead.v1.PredictorService", "Describe").predictor == "history"


async def test_every_service_is_used_by_a_client_without_stubs(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        assert suite.predictor is not None
        (worker,) = suite.workers
        await asyncio.to_thread(use_scheduler, suite.scheduler.address)
        await asyncio.to_thread(use_worker, worker.address, worker.info.model)
        await asyncio.to_thread(use_predictor, suite.predictor.address)


def curl(address: str, method: str, request: dict[str, Any]) -> tuple[int, str, str]:
    command = (
        str(Path(sys.executable).parent / "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge",
        "--header", "authorization: Bearer alice-key", "--data", json.dumps(request),
        f"http://{address}/fairlead.v1.InferenceService/{method}",
    )  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    return done.returncode, done.stdout, done.stderr


async def test_buf_curl_streams_and_shows_the_details_of_a_refusal(tmp_path: Path) -> None:
    async with running_suite(tmp_path) as suite:
        address = suite.scheduler.address
        code, out, errors = await asyncio.to_thread(
            curl, address, "Generate", {"text": "hello", "sampling": {"maxTokens": 5}}
        )
        assert code == 0, errors
        assert out.index('"accepted"') < out.index('"delta"') < out.index('"finished"')
        code, _, errors = await asyncio.to_thread(curl, address, "Generate", {"text": "", "requestId": "x"})
        assert code != 0
        assert "invalid_argument" in errors
        assert "BadRequest" in errors
