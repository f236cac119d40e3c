"""The pages of docs/policies say what the code does: one for each policy, with every option and its default."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler_svc.core.policies import BUILT_IN
from scheduler_svc.core.policies.options import as_text, describe

PAGES = Path(__file__).parents[2] / "docs" / "policies"
HEADINGS = (
    "Why choose it", "What it does", "What it needs", "Configuration", "Trade-offs", "Starvation risk", "Source",
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_policy_has_a_page_with_every_option(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(HEADINGS)
    for info in describe(BUILT_IN[name].Options):
        row = f"| `{info.name}` | {as_text(info.default)} | {info.allowed} | {info.text} |"
        assert row in text, f"the page says otherwise; the code: {row}"


def test_every_page_is_of_a_policy_and_the_table_names_them_all() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {*BUILT_IN, "README"}
    overview = (PAGES / "README.md").read_text()
    for name in BUILT_IN:
        assert f"]({name}.md)" in overview
        assert f"\n| `{name}` | " in overview


def test_the_policy_of_the_overview_works() -> None:
    code = (PAGES / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, object] = {"__name__": __name__}
    exec(compile(code, "docs/policies/README.md", "exec"), names)  # our own page
    policy = names["PaidFirst"]
    from tests.unit.policy_cases import job_of, order_of, policy_of

    made = policy(policy_of("fcfs").settings)  # type: ignore[operator]
    assert order_of(made, [job_of(1, 5, tenant="other"), job_of(2, 90), job_of(3, 50)]) == [3, 2, 1]
