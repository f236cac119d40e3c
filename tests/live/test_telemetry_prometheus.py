"""Prometheus itself scrapes a live suite, and every query of the Grafana dashboard returns data."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.client import Client, FairleadError
from fairlead.rpc import free_port
from tests.live.suite_process import Up, up
from tests.requirements import lacking

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / ".venv/prometheus/usr/bin"
DASHBOARD = ROOT / "deploy/grafana/dashboards/fairlead.json"
WITHIN_S = 30.0


def binary(name: str) -> str:
    """Path of Prometheus or promtool; skips where neither the machine nor tools/prometheus.sh has brought it."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    if found is None:
        lacking("prometheus", f"{name} is not here; tools/prometheus.sh brings Debian's package into .venv")
    return found


def free_ports_in_a_row(count: int) -> int:
    """The first of so many free ports: workers take one each, in a row."""
    while True:
        first = free_port()
        if first + count < 65536:
            return first


@pytest.fixture(scope="module")
def pages() -> dict[str, list[str]]:
    """host:port of each service's page, by the job that scrapes it."""
    worker = free_ports_in_a_row(2)
    return {
        "fairlead-scheduler": [f"127.0.0.1:{free_port()}"],
        "fairlead-predictor": [f"127.0.0.1:{free_port()}"],
        "fairlead-worker": [f"127.0.0.1:{worker}", f"127.0.0.1:{worker + 1}"],
    }


@pytest.fixture(scope="module")
def suite(pages: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    binary("prometheus")
    folder = tmp_path_factory.mktemp("scraped")
    bound = {service: pages[f"fairlead-{service}"][0] for service in ("scheduler", "predictor", "worker")}
    config = folder / "fairlead.yaml"
    config.write_text(yaml.safe_dump({"telemetry": {"prometheus": bound, "tenant_labels": 1}}))
    with up(folder, "--config", str(config), "--workers", "2", "--seats", "2") as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(suite: Up, pages: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prometheus with the deployed configuration, its names replaced by addresses."""
    folder = tmp_path_factory.mktemp("prometheus")
    deployed = yaml.safe_load((ROOT / "deploy/prometheus.yaml").read_text())
    deployed["global"]["scrape_interval"] = "1s"
    deployed["global"]["evaluation_interval"] = "1s"
    assert [job["job_name"] for job in deployed["scrape_configs"]] == list(pages)
    for job in deployed["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": pages[job["job_name"]]}]
    config = folder / "prometheus.yaml"
    config.write_text(yaml.safe_dump(deployed))
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]  # fmt: skip
    with running(command, folder / "log"):
        url = f"http://{address}"
        until(lambda: ready(url), "Prometheus did not start", folder / "log")
        load(suite)
        time.sleep(2.5)  # two scrapes between the loads: a rate needs a change that it can see
        load(suite)
        yield url


@contextmanager
def running(command: list[str], log: Path) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def until(holds: Any, what: str, log: Path | None = None) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < end_s, f"{what}: {log.read_text()[-2000:] if log else ''}"
        time.sleep(0.2)


def query(url: str, expression: str) -> list[dict[str, Any]]:
    asked = f"{url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(asked, timeout=10) as answer:
        told = json.load(answer)
    assert told["status"] == "success", told
    return [series for series in told["data"]["result"] if series["value"][1] != "NaN"]


def expressions() -> dict[str, str]:
    """Every query of the dashboard, by panel and reference, its variables filled in as Grafana would for "All"."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = {
        f"{panel['title']} {target['refId']}": target["expr"] for panel in panels for target in panel.get("targets", ())
    }
    assert len(found) == sum(len(panel.get("targets", ())) for panel in panels), "two panels have one title"
    return {
        name: expression.replace("$__rate_interval", "30s").replace("$tenant", ".*")
        for name, expression in found.items()
    }


def load(suite: Up) -> None:
    """A little of everything that the dashboard shows: both classes, two tenants, ends of all kinds, refusals."""

    def ask(index: int) -> None:
        tenant = "interactive" if index % 2 else "batch"
        with Client(suite.address, suite.session.keys[tenant]) as client:
            client.complete(f"Question {index}.", max_tokens=300, temperature=1.0, seed=index)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(10)))
    with Client(suite.address, "wrong") as nobody, pytest.raises(FairleadError):
        nobody.complete("x")


def test_deployed_configuration_is_sound() -> None:
    done = subprocess.run(
        [binary("promtool"), "check", "config", str(ROOT / "deploy/prometheus.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_query_of_the_dashboard_returns_data(prometheus: str) -> None:
    empty: dict[str, str] = {}

    def all_return() -> bool:
        empty.clear()
        empty.update({name: text for name, text in expressions().items() if not query(prometheus, text)})
        return not empty

    try:
        until(all_return, "no data")
    except AssertionError:
        pytest.fail("these queries return nothing: " + json.dumps(empty, indent=1))


def test_every_process_is_scraped_and_tenants_are_bounded(
    suite: Up, prometheus: str, pages: dict[str, list[str]]
) -> None:
    load(suite)
    addresses = {address for targets in pages.values() for address in targets}

    def scraped() -> bool:
        return {series["metric"]["instance"] for series in query(prometheus, "up == 1")} == addresses

    until(scraped, "not all pages are scraped")
    tenants = {series["metric"]["tenant"] for series in query(prometheus, "fairlead_requests_accepted_total")}
    assert tenants == {"interactive", "other"}, "tenant_labels is 1: the first has a name, the others share one"


def test_figures_agree(prometheus: str) -> None:
    """I1 as an operator sees it: accepted = ended + in flight, and every ended one has its TTFT."""
    ended = "fairlead_requests_ended_total", "fairlead_requests_waiting", "fairlead_requests_running"

    def agree() -> bool:
        accepted = query(prometheus, "sum(fairlead_requests_accepted_total)")
        rest = query(prometheus, " + ".join(f"sum({name})" for name in ended))
        first = query(prometheus, "sum(gen_ai_server_time_to_first_token_seconds_count)")
        values = [float(series[0]["value"][1]) for series in (accepted, rest, first) if series]
        return len(values) == 3 and len(set(values)) == 1 and values[0] > 0

    until(agree, "the counts do not agree")
