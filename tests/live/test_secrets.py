"""Keys and texts that are told apart from everything else, looked for in all that a suite writes: they are nowhere.

The suite runs as processes, over TLS, at log level `debug`, with traces, metrics and pages for Prometheus.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from fairlead.certs import CertStore
from fairlead.client import Admin, ChatMessage, Client, Delta, FairleadError, Retry, Tls
from fairlead.rpc import free_port
from fairlead.v1 import tenants_pb2
from tests.live.otlp_receiver import Receiver, receiving
from tests.live.suite_process import Up, eventually, up

pytestmark = pytest.mark.live
KEYS = {"chat": "canary-key-chat-8d1f7c", "reports": "canary-key-file-52ac90", "ops": "canary-key-ops-b03e11"}
SERVICE_KEY = "canary-service-key-77f0aa31"
WRONG_KEY = "canary-wrong-key-19c4d2"
TEXT = "zanzibarcanary"
SYSTEM = "systemcanary"
STOP = "stopcanary"


@dataclass
class Written:
    """Everything the suite wrote, by where."""

    by_place: dict[str, str]

    def places_of(self, needle: str) -> list[str]:
        return [place for place, text in self.by_place.items() if needle.lower() in text.lower()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Written, list[str]]]:
    """What is written while requests are answered, refused, cancelled and cut; and the secrets that came up in it."""
    folder = tmp_path_factory.mktemp("secrets")
    with receiving() as receiver, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        pages = {name: f"127.0.0.1:{free_port()}" for name in ("scheduler", "predictor", "worker")}
        config = configured(folder, receiver, pages)
        with up(folder, "--config", str(config)) as suite:
            secrets = used(suite)
            receiver.until(lambda: {"scheduler", "worker"} <= _services(receiver), "spans of all services")
            eventually(lambda: len(receiver.metrics) >= 3, f"metrics came of {sorted(receiver.metrics)} alone")
            shown = {f"page of the {name}": _page(address) for name, address in pages.items()}
        with receiver.lock:
            told = {"spans": repr(receiver.spans), "metrics": str(receiver.metrics)}
        logs = {f"log {path.name}": path.read_text() for path in sorted(suite.logs.iterdir())}
        state = {
            f"state {path.name}": path.read_bytes().decode("latin-1")
            for path in (folder / "kept").rglob("*")
            if path.is_file()
        }
        out = {"standard output": suite.ready_line, "standard error": "\n".join(suite.errors)}
        yield Written({**shown, **told, **logs, **state, **out}), secrets


def configured(folder: Path, receiver: Receiver, pages: dict[str, str]) -> Path:
    now, days = datetime.now(UTC), timedelta(days=9)
    store = CertStore(folder / "certs")
    store.make_authority(days, now)
    for service in ("scheduler", "predictor", "worker"):
        store.issue_service(service, [], days, now)
    (folder / "reports.key").write_text(KEYS["reports"] + "\n")
    (folder / "service.key").write_text(SERVICE_KEY + "\n")
    sections = {
        "log": {"level": "debug", "format": "json"},
        "security": {"folder": str(store.folder), "service_key_file": str(folder / "service.key")},
        "scheduler": {"state_dir": str(folder / "kept"), "decision_log": str(folder / "kept" / "decisions")},
        "telemetry": {
            "traces": True, "metrics": True, "metrics_every_s": 0.5, "endpoint": f"http://{receiver.address}",
            "prometheus": pages,
        },
        "tenants": [
            {"name": "chat", "key": KEYS["chat"], "default_class": "ls"},
            {"name": "reports", "key_file": str(folder / "reports.key")},
            {"name": "ops", "key": KEYS["ops"], "operator": True},
        ],
    }  # fmt: skip
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def used(suite: Up) -> list[str]:
    """Answers, refusals, a cancelled request, an id in use, wrong keys, tenants made; the secrets that came up."""
    tls = Tls(suite.session.ca)
    secrets: list[str] = []
    with Client(suite.address, KEYS["chat"], tls=tls, retry=Retry(attempts=1)) as chat:
        done = chat.complete(
            [ChatMessage("system", SYSTEM), ChatMessage("user", f"Say {TEXT}.")], max_tokens=30, min_tokens=30,
            ignore_eos=True, stop=[STOP], request_id="first",
        )  # fmt: skip
        secrets.append(done.text.strip()[:40])
        for wrong in ({"temperature": -1.0}, {"model": "none"}, {"request_id": "first"}, {"stop": [STOP] * 99}):
            with suppress(FairleadError):
                chat.complete(f"Other {TEXT}.", **wrong)  # pyright: ignore[reportArgumentType]
        with suppress(FairleadError):
            chat.complete(TEXT * 100_000)
        for event in chat.generate(f"Leave {TEXT}.", max_tokens=500, min_tokens=500, ignore_eos=True):
            if isinstance(event, Delta):
                break
    with Client(suite.address, KEYS["reports"], tls=tls) as reports:
        assert reports.complete(f"Report {TEXT}.", max_tokens=5).outcome.complete
    for key in (WRONG_KEY, f"{WRONG_KEY}\tx", KEYS["chat"] + "x"):
        with (
            Client(suite.address, key, tls=tls, retry=Retry(attempts=1)) as stranger,
            suppress(FairleadError, ValueError),
        ):
            stranger.list_models()
    by_command = suite.cli("generate", f"Command {TEXT}.", "--tenant", "chat", "--max-tokens", "3")
    assert by_command.returncode == 0, "a command knows the CA of the suite that runs here: " + by_command.stderr
    admin = Admin(suite.address, KEYS["ops"], tls=tls)
    made = admin.create_tenant(tenants_pb2.Tenant(name="made"))
    admin.close()
    return [*secrets, made.key]


def _services(receiver: Receiver) -> set[str]:
    with receiver.lock:
        return {span.service.removeprefix("fairlead-") for span in receiver.spans}


def _page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_the_search_finds_what_is_there(written: tuple[Written, list[str]]) -> None:
    """Names of tenants are told, of requests in the debug log: the search would find a key or a text."""
    found = written[0]
    assert {"spans", "metrics", "page of the scheduler", "log scheduler.log"} <= set(found.places_of("chat"))
    assert found.places_of("first_token")
    assert {"log predictor.log", "log worker-0.log", "page of the worker"} <= set(found.by_place)
    assert all(text for place, text in found.by_place.items() if place.startswith(("log", "page")))
    assert any(place.startswith("state") for place in found.by_place)
    assert re.search(r'"level": ?"debug"', found.by_place["log scheduler.log"])


def test_each_page_says_when_its_certificate_expires(written: tuple[Written, list[str]]) -> None:
    soon, late = (datetime.now(UTC) + timedelta(days=days) for days in (8, 10))
    for service in ("scheduler", "predictor", "worker"):
        page = written[0].by_place[f"page of the {service}"]
        told = re.search(r"^fairlead_certificate_expires_timestamp_seconds(?:{.*})? (\S+)$", page, re.MULTILINE)
        assert told, service
        assert soon.timestamp() < float(told[1]) < late.timestamp(), service


@pytest.mark.parametrize("secret", [*KEYS.values(), SERVICE_KEY, WRONG_KEY, "PRIVATE KEY"])
def test_no_key_is_written_anywhere(secret: str, written: tuple[Written, list[str]]) -> None:
    assert written[0].places_of(secret) == []


@pytest.mark.parametrize("text", [TEXT, SYSTEM, STOP])
def test_no_text_of_a_request_is_written_anywhere(text: str, written: tuple[Written, list[str]]) -> None:
    assert written[0].places_of(text) == []


def test_no_answer_and_no_key_that_was_made_is_written_anywhere(written: tuple[Written, list[str]]) -> None:
    found, secrets = written
    answer, key = secrets
    assert len(answer) > 20
    assert len(key) > 16
    assert found.places_of(answer) == []
    assert found.places_of(key) == []
