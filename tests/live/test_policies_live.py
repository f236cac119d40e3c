"""Every policy by name on a live scheduler and simulated engines; plug-ins found in an installed distribution."""

from __future__ import annotations

import asyncio
from pathlib import Path
from textwrap import dedent

import pytest
from structlog.testing import capture_logs

from fairlead.client import Admin, InvalidRequest
from fairlead.config import ConfigError
from scheduler_svc.core.policies import BUILT_IN
from tests.live.scheduler_suite import Suite, check_whole, running_suite, until, worker_config

pytestmark = pytest.mark.live


async def ask_many(suite: Suite, name: str, requests: int = 12) -> None:
    """More requests at once than there are seats, of both classes; each gets its own answer whole."""
    prompts = [f"{name} {index} " + "word " * (index * 7 % 40) for index in range(requests)]
    running = [
        asyncio.create_task(
            suite.client("alice" if index % 2 else "bob").complete(prompt, max_tokens=10 + index * 13 % 60)
        )
        for index, prompt in enumerate(prompts)
    ]
    for prompt, task in zip(prompts, running, strict=True):
        check_whole(prompt, await task)


async def test_every_policy_serves_by_name_one_after_the_other(tmp_path: Path) -> None:
    async with running_suite(tmp_path, workers=[worker_config(step_seats=3, slots=8)]) as suite:
        for name in sorted(BUILT_IN):
            await suite.admin(Admin.set_policy, name)
            await ask_many(suite, name)
        status = await suite.status()
        assert not status.policy_faults
        await suite.all_free()


async def test_options_are_told_set_and_refused_by_name(tmp_path: Path) -> None:
    options = {"rank": {"threshold_ms": 500}}
    async with running_suite(tmp_path, policy="rank", policy_options=options) as suite:
        assert (await suite.status()).settings.options == {"threshold_ms": "500.0", "quantum_tokens": "50"}
        await suite.admin(Admin.set_policy, "rank", options={"quantum_tokens": "7"})
        assert (await suite.status()).settings.options == {"threshold_ms": "500.0", "quantum_tokens": "7"}
        listed = {each.policy: each for each in await suite.admin(Admin.policies)}
        assert [each.name for each in listed["rank"].options] == ["threshold_ms", "quantum_tokens"]
        for policy, given, message in (
            ("rank", {"quantum": "7"}, "has no option 'quantum'; it has quantum_tokens, threshold_ms"),
            ("rank", {"quantum_tokens": "0"}, "must be a whole number from 1 to 1000000, got '0'"),
            ("fcfs", {"x": "1"}, "has no option 'x'; it has none"),
            ("rnak", {}, "unknown policy 'rnak'; known: anneal, "),
        ):
            with pytest.raises(InvalidRequest, match=message):
                await suite.admin(Admin.set_policy, policy, options=given)
        assert (await suite.status()).policy == "rank"


async def test_a_wrong_option_in_the_configuration_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scheduler\.policy_options\.mlfq: option 'levels' .* 1 to 32, got '99'"):
        async with running_suite(tmp_path, policy_options={"mlfq": {"levels": 99}}):
            pass


@pytest.fixture
def plug_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with two policies: one loops for ever over long prompts, one answers NaN for them."""
    site = tmp_path / "site"
    (site / "others-1.0.dist-info").mkdir(parents=True)
    (site / "others-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (site / "others-1.0.dist-info" / "entry_points.txt").write_text(
        "[fairlead.policies]\nhangs = other_policies:Hangs\nnonsense = other_policies:Nonsense\n"
        "broken = other_policies:Broken\n"
    )
    (site / "other_policies.py").write_text(
        dedent(
            """
            from scheduler_svc.core.policies import Policy

            class Hangs(Policy):
                name = "hangs"
                summary = "hangs over long prompts"
                def key(self, job, now_ms):
                    while job.spec.prompt_tokens > 20:
                        pass
                    return (0.0, job.arrival_ms)

            class Nonsense(Policy):
                name = "nonsense"
                summary = "knows no number for long prompts"
                def key(self, job, now_ms):
                    return (0.0, float("nan") if job.spec.prompt_tokens > 20 else 1.0)
            """
        )
    )
    monkeypatch.syspath_prepend(str(site))


@pytest.mark.usefixtures("plug_ins")
@pytest.mark.parametrize(
    ("policy", "error"),
    [("hangs", "PolicyTooSlow: took longer than 50 ms"), ("nonsense", "Nonsense: nan is not finite")],
)
async def test_a_bad_plug_in_is_named_and_counted_and_everything_is_served(
    tmp_path: Path, policy: str, error: str
) -> None:
    with capture_logs() as logs:
        async with running_suite(tmp_path, policy=policy) as suite:
            await ask_many(suite, policy)
            status = await suite.status()
            assert status.policy == policy
            assert status.policy_faults[policy] > 0
            await until(lambda: any(each.get("policy") == policy for each in logs), "the log")
    told = [each for each in logs if each.get("policy") == policy and "hook" in each]
    assert told[0]["hook"] == "key"
    assert error in told[0]["error"]
    left_out = [each for each in logs if each.get("policy") == "broken"]
    assert "AttributeError" in left_out[0]["error"], "the third one, which is not there, is named at the start"
