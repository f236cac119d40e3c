"""Who asks, and what a request may hold: every refusal is typed and names its field."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import grpc
import pytest
from pydantic import SecretStr

from fairlead.config import ClassDefaults, ConfigError, SchedulerConfig, Tenant
from fairlead.rpc import Refusal
from fairlead.v1 import inference_pb2, types_pb2
from scheduler_svc.auth import Authenticator
from scheduler_svc.tenants.registry import TenantRegistry
from scheduler_svc.validation import Wanted, check_generate, content_digest

ALICE = Tenant(name="alice", key=SecretStr("alice-key"), classes=("be",), default_class="be")
BOB = Tenant(name="bob", key_sha256=hashlib.sha256(b"bob-key").hexdigest(), default_class="ls", operator=True)
LS, BE = types_pb2.SERVICE_CLASS_LATENCY_SENSITIVE, types_pb2.SERVICE_CLASS_BEST_EFFORT
CODE = grpc.StatusCode


def bearer(value: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "x"), ("authorization", value)]


def check(tenant: Tenant = BOB, config: SchedulerConfig | None = None, **fields: Any) -> Wanted:
    fields = {"text": "a prompt", **fields}
    if "messages" in fields or "token_ids" in fields:
        del fields["text"]
    request = inference_pb2.GenerateRequest(**fields)
    return check_generate(request, tenant, config or SchedulerConfig(), ClassDefaults())


def refused(**fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        check(**fields)
    return caught.value


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_key_names_its_tenant(scheme: str) -> None:
    found = Authenticator(TenantRegistry([ALICE, BOB]))
    assert found.tenant_of(bearer(f"{scheme}alice-key")) is ALICE
    assert found.tenant_of(bearer(f"{scheme}bob-key")) is BOB


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("x-tenant", "alice")],
        bearer("Bearer wrong"),
        bearer("Bearer "),
        bearer("alice-key"),
        bearer("Basic alice-key"),
        bearer("Bearer " + "x" * 5000),
        [*bearer("Bearer alice-key"), *bearer("Bearer bob-key")],
        [("authorization", b"Bearer alice-key")],
    ],
)
def test_anything_but_one_known_key_is_unauthenticated_with_the_remedy(metadata: Any) -> None:
    with pytest.raises(Refusal) as caught:
        Authenticator(TenantRegistry([ALICE, BOB])).tenant_of(metadata)
    assert caught.value.code is CODE.UNAUTHENTICATED
    assert "authorization: Bearer KEY" in caught.value.message
    assert "alice-key" not in caught.value.message


def test_no_tenants_or_a_shared_key_are_told_at_the_start() -> None:
    with pytest.raises(ConfigError, match="tenants: none"):
        TenantRegistry([])
    twin = Tenant(name="twin", key=SecretStr("alice-key"))
    with pytest.raises(ConfigError, match="'alice' and 'twin' have the same key"):
        TenantRegistry([ALICE, twin])


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n "}, "text"),
        ({"text": "x" * 1_000_001}, "text"),
        ({"text": "\u00e9" * 500_001}, "text"),
        ({"messages": types_pb2.ChatMessages()}, "messages"),
        ({"token_ids": types_pb2.TokenIds()}, "token_ids"),
        ({"messages": types_pb2.ChatMessages(messages=[{"role": "user", "content": " "}])}, "messages"),
        ({"token_ids": types_pb2.TokenIds(ids=[2**31] * 250_000)}, "token_ids"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"request_id": "tab\there"}, "request_id"),
        ({"request_id": "\u00e9"}, "request_id"),
        ({"model": "m" * 257}, "model"),
        ({"service_class": 99}, "service_class"),
        ({"slo": types_pb2.Slo(ttft_ms=0)}, "slo.ttft_ms"),
        ({"slo": types_pb2.Slo(tpot_ms=math.nan)}, "slo.tpot_ms"),
        ({"slo": types_pb2.Slo(tpot_ms=-1)}, "slo.tpot_ms"),
        ({"slo": types_pb2.Slo(completion_ms=math.inf)}, "slo.completion_ms"),
        ({"slo": types_pb2.Slo(ttft_ms=1e9)}, "slo.ttft_ms"),
        ({"sampling": types_pb2.SamplingParams(temperature=math.nan)}, "sampling.temperature"),
        ({"sampling": types_pb2.SamplingParams(temperature=-0.1)}, "sampling.temperature"),
        ({"sampling": types_pb2.SamplingParams(temperature=math.inf)}, "sampling.temperature"),
        ({"sampling": types_pb2.SamplingParams(top_p=0)}, "sampling.top_p"),
        ({"sampling": types_pb2.SamplingParams(top_p=1.1)}, "sampling.top_p"),
        ({"sampling": types_pb2.SamplingParams(min_p=-1)}, "sampling.min_p"),
        ({"sampling": types_pb2.SamplingParams(presence_penalty=3)}, "sampling.presence_penalty"),
        ({"sampling": types_pb2.SamplingParams(frequency_penalty=math.nan)}, "sampling.frequency_penalty"),
        ({"sampling": types_pb2.SamplingParams(repetition_penalty=0)}, "sampling.repetition_penalty"),
        ({"sampling": types_pb2.SamplingParams(max_tokens=0)}, "sampling.max_tokens"),
        ({"sampling": types_pb2.SamplingParams(max_tokens=2, min_tokens=3)}, "sampling.min_tokens"),
        ({"sampling": types_pb2.SamplingParams(stop=["x"] * 65)}, "sampling.stop"),
        ({"sampling": types_pb2.SamplingParams(stop=["ok", ""])}, "sampling.stop[1]"),
        ({"sampling": types_pb2.SamplingParams(stop=["x" * 1025])}, "sampling.stop[0]"),
        ({"sampling": types_pb2.SamplingParams(stop_token_ids=range(65))}, "sampling.stop_token_ids"),
        ({"length_hint_tokens": 0}, "length_hint_tokens"),
        (
            {"received_token_ids": [1, 2, 3], "sampling": types_pb2.SamplingParams(max_tokens=2)},
            "received_token_ids",
        ),
    ],
)
def test_each_bad_field_is_refused_by_its_path(fields: dict[str, Any], path: str) -> None:
    refusal = refused(**fields)
    assert refusal.code is CODE.INVALID_ARGUMENT
    assert [name for name, _ in refusal.fields] == [path]
    assert refusal.reason == "INVALID_FIELD"


def test_no_prompt_at_all_is_refused() -> None:
    with pytest.raises(Refusal, match="give text, messages or token_ids"):
        check_generate(inference_pb2.GenerateRequest(), BOB, SchedulerConfig(), ClassDefaults())


def test_only_operators_give_length_hints() -> None:
    assert check(length_hint_tokens=7).length_hint == 7
    refusal = refused(tenant=ALICE, length_hint_tokens=7)
    assert (refusal.code, refusal.fields[0][0]) == (CODE.PERMISSION_DENIED, "length_hint_tokens")


def test_a_class_that_the_tenant_may_not_use_is_clamped() -> None:
    assert not check(ALICE, service_class=LS).latency_sensitive
    assert not check(BOB, service_class=BE).latency_sensitive
    assert check(BOB).latency_sensitive, "its default class"


def test_targets_are_filled_in_and_told_as_they_bind() -> None:
    interactive = check(slo=types_pb2.Slo(tpot_ms=20))
    assert interactive.slo() == types_pb2.Slo(ttft_ms=1000, tpot_ms=20)
    assert check(service_class=BE).slo() == types_pb2.Slo(), "no completion target unless one is asked for"
    assert check(service_class=BE, slo=types_pb2.Slo(completion_ms=9000)).slo() == types_pb2.Slo(completion_ms=9000)


def test_lengths_are_filled_in() -> None:
    config = SchedulerConfig(default_max_tokens=100)
    assert check(config=config).sampling.max_tokens == 100
    assert check(config=config, sampling=types_pb2.SamplingParams(min_tokens=300)).sampling.max_tokens == 300
    assert check(config=config, sampling=types_pb2.SamplingParams(max_tokens=2**32 - 1)).sampling.max_tokens > 1e9


@pytest.mark.parametrize(
    ("sampling", "continuable"),
    [
        ({}, True),
        ({"temperature": 0.7, "top_p": 0.9, "stop": ["x"]}, True),
        ({"presence_penalty": 0.0, "repetition_penalty": 1.0}, True),
        ({"seed": 0}, False),
        ({"presence_penalty": 0.1}, False),
        ({"frequency_penalty": -0.1}, False),
        ({"repetition_penalty": 1.1}, False),
    ],
)
def test_what_survives_a_lost_worker_is_known_at_acceptance(sampling: dict[str, Any], continuable: bool) -> None:
    assert check(sampling=types_pb2.SamplingParams(**sampling)).continuable is continuable


def test_the_resume_grace_is_bounded() -> None:
    config = SchedulerConfig(resume_grace_ms=5, max_resume_grace_ms=1000)
    assert check(config=config).resume_grace_ms == 5
    assert check(config=config, resume_grace_ms=0).resume_grace_ms == 0
    assert check(config=config, resume_grace_ms=60_000).resume_grace_ms == 1000


def test_the_digest_is_of_the_content_alone() -> None:
    first = inference_pb2.GenerateRequest(request_id="a", text="x", received_token_ids=[1])
    again = inference_pb2.GenerateRequest(request_id="b", text="x", received_token_ids=[1, 2])
    other = inference_pb2.GenerateRequest(request_id="a", text="y")
    assert content_digest(first) == content_digest(again) != content_digest(other)


def test_an_id_is_made_where_none_is_given() -> None:
    made = {check().request_id for _ in range(10)}
    assert len(made) == 10
    assert check(request_id=" ~!").request_id == " ~!"
