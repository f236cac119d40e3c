"""Every accepted request counted into exactly one outcome (I1), by tenant and class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from scheduler_svc.core.types import Job, Outcome


@dataclass(slots=True)
class Account:
    """One tenant's requests of one class.

    Attributes:
        accepted, waiting, running: requests; `waiting` is in the pool, `running` on a worker.
        outcomes: requests ended, by outcome.
        output_tokens: tokens sent out.
    """

    accepted: int = 0
    waiting: int = 0
    running: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    output_tokens: int = 0

    @property
    def live(self) -> int:
        """Accepted and not ended."""
        return self.waiting + self.running


class Ledger:
    """Accounts by (tenant, latency_sensitive)."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, bool], Account] = {}

    def of(self, job: Job) -> Account:
        """The account that `job` belongs to: of the class in which it came."""
        key = (job.spec.tenant, job.came_as_ls)
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = Account()
        return account

    def waiting(self, tenant: str | None = None) -> int:
        """Requests in the pool: of one tenant, or of all."""
        return sum(account.waiting for (name, _), account in self.accounts.items() if tenant in (None, name))

    def check(self) -> None:
        """Raises AssertionError where I1 does not hold."""
        for name, account in self.accounts.items():
            ended = sum(account.outcomes.values())
            assert account.accepted == account.live + ended, f"I1: {name}: {account}"
            assert account.waiting >= 0 and account.running >= 0, f"I1: {name}: {account}"
