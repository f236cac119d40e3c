"""Every accepted request counted into exactly one outcome (I1), by tenant and class, and what each tenant has open."""

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


@dataclass(slots=True)
class Open:
    """What is open of one tenant, both classes together.

    Attributes:
        live: requests accepted and not ended.
        waiting, waiting_tokens: of them those in the pool, and the tokens expected of these.
    """

    live: int = 0
    waiting: int = 0
    waiting_tokens: float = 0.0


class Ledger:
    """Accounts by (tenant, latency_sensitive)."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, bool], Account] = {}
        self._open: dict[str, Open] = {}
        self._waiting = {True: 0, False: 0}

    def of(self, job: Job) -> Account:
        """The account that `job` belongs to: of the class in which it came."""
        spec = job.spec
        key = (spec.tenant, spec.latency_sensitive or job.relegated)  # `came_as_ls`, without a call at each token
        account = self.accounts.get(key)
        if account is None:
            account = self.accounts[key] = Account()
        return account

    def accepted(self, job: Job) -> None:
        """A request was accepted; it enters the pool next."""
        self.of(job).accepted += 1
        self._open.setdefault(job.spec.tenant, Open()).live += 1

    def ended(self, job: Job, outcome: Outcome) -> None:
        """A request that has left pool and worker has its outcome."""
        self.of(job).outcomes[outcome] += 1
        tenant = self._open[job.spec.tenant]
        tenant.live -= 1
        if not tenant.live:
            del self._open[job.spec.tenant]

    def waits(self, job: Job) -> None:
        """A live job enters the pool."""
        self._move(job, 1)

    def waits_no_more(self, job: Job) -> None:
        """A job leaves the pool."""
        self._move(job, -1)

    def runs(self, job: Job) -> None:
        """A job enters a worker."""
        self.of(job).running += 1

    def runs_no_more(self, job: Job) -> None:
        """A job leaves its worker."""
        self.of(job).running -= 1

    def waiting(self, tenant: str | None = None) -> int:
        """Requests in the pool: of one tenant, or of all."""
        return sum(self._waiting.values()) if tenant is None else self.open(tenant).waiting

    def waiting_in_class(self, latency_sensitive: bool) -> int:
        """Requests in the pool that are served as this class now."""
        return self._waiting[latency_sensitive]

    def open(self, tenant: str) -> Open:
        """What is open of a tenant."""
        return self._open.get(tenant) or Open()

    def check(self) -> None:
        """Raises AssertionError where I1 does not hold."""
        for name, account in self.accounts.items():
            ended = sum(account.outcomes.values())
            assert account.accepted == account.live + ended, f"I1: {name}: {account}"
            assert account.waiting >= 0 and account.running >= 0, f"I1: {name}: {account}"
        waiting = sum(account.waiting for account in self.accounts.values())
        assert waiting == self.waiting(), f"I1: {waiting} wait, {self.waiting()} counted by class"
        assert waiting == sum(each.waiting for each in self._open.values()), f"I1: {waiting} wait, but not by tenant"

    def _move(self, job: Job, sign: int) -> None:
        self.of(job).waiting += sign
        self._waiting[job.spec.latency_sensitive] += sign
        tenant = self._open[job.spec.tenant]
        tenant.waiting += sign
        tenant.waiting_tokens += sign * job.expected_tokens
        if not tenant.waiting:  # so that rounding does not gather
            tenant.waiting_tokens = 0.0
