"""compose.yaml on a real Docker engine: the images as they are built, two workers on vLLM, used from the host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fairlead.client import Admin, Client, Delta, Finished, Outcome, Retry, Tls, Unauthenticated, Unavailable
from tests.compose.compose_project import BUILD_AND_UP_WITHIN_S, Project, need_docker
from tests.live.foreign_client import build
from tests.requirements import lacking

pytestmark = pytest.mark.compose
LONG_TOKENS = 700
AT_ONCE = 24


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    need_docker()
    made = Project()
    start_s = time.monotonic()
    try:
        made.compose("up", "--build", "--wait", "--scale", "worker=2", within_s=BUILD_AND_UP_WITHIN_S)
        print(f"\nbuilt and up in {time.monotonic() - start_s:.0f} s")
        yield made
    except AssertionError:
        print(made.compose("logs", "--no-color", "--tail", "60", check=False))
        raise
    finally:
        made.compose("--profile", "gpu", "down", "--volumes", "--timeout", "5", check=False)


@pytest.fixture(scope="module")
def tls(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """What a client on the host needs to believe the scheduler, got as the documentation says."""
    path = tmp_path_factory.mktemp("tls") / "ca.crt"
    path.write_text(project.compose("exec", "-T", "scheduler", "cat", "/var/lib/fairlead/certs/scheduler/ca.crt"))
    return Tls(path)


@pytest.fixture(scope="module")
def keys(project: Project) -> dict[str, str]:
    """Made by the first start, read as the documentation says."""
    names = ("interactive", "batch", "operator")
    return {name: project.compose("exec", "-T", "scheduler", "fairlead", "keys", name).strip() for name in names}


def test_a_stream_from_the_host_needs_a_key_and_is_whole(project: Project, keys: dict[str, str], tls: Tls) -> None:
    assert len(set(keys.values())) == 3
    with Client(project.address, keys["interactive"], tls=tls) as client:
        (model,) = client.list_models()
        assert (model.model, model.workers) == ("demo", 2)
        events = list(client.generate("Count from 1 to 20.", service_class="ls", temperature=0, max_tokens=60))
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.outcome.complete
    deltas = [event for event in events if isinstance(event, Delta)]
    assert sum(delta.token_count for delta in deltas) == last.usage.output_tokens > 0
    with Client(project.address, "wrong", tls=tls) as stranger, pytest.raises(Unauthenticated):
        stranger.complete("hello")


def test_a_best_effort_request_is_predicted_as_it_arrives(project: Project, keys: dict[str, str], tls: Tls) -> None:
    with Client(project.address, keys["batch"], tls=tls) as client:
        last = list(client.generate("Count from 1 to 40.", service_class="be", temperature=0, max_tokens=200))[-1]
    assert isinstance(last, Finished)
    assert last.decision.predictor == "encoder"
    assert last.decision.predictions > 0


def test_node_streams_from_the_host(project: Project, keys: dict[str, str], tls: Tls, tmp_path: Path) -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        lacking("node", "node and npm are not installed (Debian: apt-get install nodejs npm)")
    quiet = ("--no-audit", "--no-fund", "--prefer-offline")
    folder = build("node", tmp_path, ("npm", "ci", *quiet), ("npm", "run", "build"))
    done = subprocess.run(
        ["npm", "--silent", "start"], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "FAIRLEAD_ADDRESS": project.address, "FAIRLEAD_KEY": keys["interactive"],
             "FAIRLEAD_CA": str(tls.ca)},
    )  # fmt: skip
    assert "accepted: tenant interactive, model demo" in done.stdout, done.stdout + done.stderr
    assert "finished: OUTCOME_" in done.stdout


def test_only_the_client_port_is_published(project: Project) -> None:
    published: list[tuple[str, str, str]] = []
    for service in ("scheduler", "predictor", "worker"):
        for container in project.containers(service):
            for port, hosts in container["NetworkSettings"]["Ports"].items():
                published += [(service, port, host["HostIp"]) for host in hosts or ()]
    assert published == [("scheduler", "7600/tcp", "127.0.0.1")]


def test_no_port_speaks_plain_text_and_no_service_has_the_key_of_the_ca(project: Project, keys: dict[str, str]) -> None:
    with Client(project.address, keys["batch"], retry=Retry(attempts=1)) as client, pytest.raises(Unavailable):
        client.list_models()
    code = "from fairlead.probe import probe; print(probe('{}', '', 3.0))"
    for address in ("scheduler:7600", "predictor:7601", "worker:7602"):
        told = project.compose("exec", "-T", "scheduler", "python", "-c", code.format(address))
        assert "UNAVAILABLE" in told, address
    for service in ("scheduler", "predictor", "worker"):
        held = project.compose("exec", "-T", service, "find", "/var/lib/fairlead/certs", "-name", "*.key").split()
        assert held == [f"/var/lib/fairlead/certs/{service}/tls.key"]
    shown = project.compose("exec", "-T", "certs", "fairlead", "certs", "show", "--folder", "/var/lib/fairlead/certs")
    assert "scheduler.fairlead.internal" in shown


def test_services_run_without_root_or_a_writable_image(project: Project) -> None:
    for service in ("scheduler", "predictor", "worker"):
        (container, *_) = project.containers(service)
        assert container["Config"]["User"] == "fairlead"
        assert container["HostConfig"]["ReadonlyRootfs"]
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        assert project.compose("exec", "-T", service, "id", "-u").strip() == "10001"
        refused = project.compose("exec", "-T", service, "touch", "/opt/fairlead/x", check=False)
        assert "Read-only file system" in refused


def test_an_image_carries_only_what_its_service_runs(project: Project) -> None:
    code = "import importlib.util as u, json, sys; print(json.dumps([n for n in sys.argv[1:] if u.find_spec(n)]))"
    asked = ("torch", "vllm", "onnxruntime", "sortedcontainers", "sklearn", "tests", "demo")
    found = {
        service: json.loads(project.compose("exec", "-T", "-w", "/tmp", service, "python", "-c", code, *asked))
        for service in ("scheduler", "predictor", "worker")
    }
    assert found["scheduler"] == ["sortedcontainers"]
    assert found["predictor"] == ["onnxruntime"]
    assert found["worker"][:2] == ["torch", "vllm"]
    assert "sortedcontainers" not in found["worker"]
    sizes = {service: project.containers(service)[0]["Image"] for service in found}
    for service, image in sizes.items():
        (told,) = json.loads(project.docker("image", "inspect", image))
        print(f"\nimage {service}: {told['Size'] / 1e6:.0f} MB")
        assert not any("KEY" in line or "TOKEN" in line for line in told["Config"]["Env"])


def test_keys_outlive_the_container_and_a_missing_one_is_refused(
    project: Project, keys: dict[str, str], tls: Tls
) -> None:
    project.compose("up", "--wait", "--force-recreate", "--no-deps", "scheduler", within_s=120)
    with Client(project.address, keys["batch"], tls=tls) as client:
        assert client.complete("List 5 animals.", max_tokens=30).outcome.complete
    bare = ("run", "--rm", "--network", "none", "--read-only", "fairlead-scheduler:test", "--config")
    config = "tenants: [{name: chat, key_file: /run/secrets/chat}]"
    refused = project.docker(
        *bare[:-2], "--entrypoint", "sh", bare[-2], "-c",
        f"echo '{config}' >/dev/shm/c.yaml && exec fairlead-scheduler --config /dev/shm/c.yaml", check=False,
    )  # fmt: skip
    assert "tenant 'chat': /run/secrets/chat (key_file) does not exist; write the key there" in refused


def test_gpu_profile_without_a_driver_says_so(project: Project) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver")
    said = project.compose("--profile", "gpu", "run", "--rm", "--no-deps", "gpu-check", check=False)
    assert "no NVIDIA driver was found on this machine" in said
    assert "leave `--profile gpu` out to serve on CPUs" in said


def test_a_worker_killed_in_mid_answer_ends_every_stream_well(project: Project, keys: dict[str, str], tls: Tls) -> None:
    streaming = threading.Semaphore(0)

    def ask(number: int) -> tuple[Finished, list[int]]:
        tokens: list[int] = []
        with Client(project.address, keys["batch" if number % 2 else "interactive"], tls=tls) as client:
            prompt = f"Tell story {number}."
            for event in client.generate(
                prompt, max_tokens=LONG_TOKENS, min_tokens=LONG_TOKENS, ignore_eos=True, temperature=0
            ):
                if isinstance(event, Delta):
                    if not tokens:
                        streaming.release()
                    tokens += range(event.first_token, event.first_token + event.token_count)
                elif isinstance(event, Finished):
                    return event, tokens
        raise AssertionError(f"stream {number} ended without an outcome")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [pool.submit(ask, number) for number in range(AT_ONCE)]
        for _ in range(AT_ONCE // 2):
            assert streaming.acquire(timeout=60), "the answers did not begin"
        victim = project.containers("worker")[0]["Id"]
        project.docker("kill", victim)
        ended = [answer.result(timeout=120) for answer in answers]
    for last, tokens in ended:
        assert last.outcome in (Outcome.LENGTH, Outcome.FAILED_WORKER_LOST)
        assert tokens == list(range(len(tokens)))
        if last.outcome is Outcome.LENGTH:
            assert len(tokens) == LONG_TOKENS
    moved = [last for last, _ in ended if last.decision.attempts > 1 or last.outcome is Outcome.FAILED_WORKER_LOST]
    assert moved, "no answer was on the worker that was killed"
    whole = sum(last.outcome is Outcome.LENGTH for last, _ in ended)
    print(f"\n{len(moved)} of {AT_ONCE} answers lost their worker; {whole} of {AT_ONCE} were whole")
    with Client(project.address, keys["interactive"], tls=tls) as client:
        assert client.complete("List 5 animals.", max_tokens=30).outcome.complete
    admin = Admin(project.address, keys["operator"], tls=tls)
    try:
        assert sum(worker.connected for worker in admin.status().workers) == 1
    finally:
        admin.close()


def test_down_leaves_nothing(project: Project) -> None:
    assert len(project.left()["containers"]) == 5
    project.compose("down", "--volumes", "--timeout", "20")
    assert project.left() == {"containers": [], "networks": [], "volumes": []}
