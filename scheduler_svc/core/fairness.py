"""Fair shares over tokens served: virtual token counters (Sheng et al., "Fairness in Serving LLMs", OSDI 2024). Pure.

A *lane* is where tenants compete: the requests of one model and one class (of one model, under a policy that knows no
classes), in the pool and on all workers. In each lane a tenant has a counter: tokens over weight, an output token
counting `output_token_weight` input tokens. What a request is expected to take is charged when it enters a worker, what
it takes beyond that at the next window; at its end, or when its worker is lost, the charge is settled with what was
served.

Counters are read in *bands* of `fair_bound_tokens` (B): a request of a lower band goes first, inside a band the policy
decides, so that a tenant that is a band ahead yields. A request keeps the band in which it entered its worker, as a
packet keeps its start tag in start-time fair queueing (Goyal et al., SIGCOMM 1996): what is charged for it puts its
tenant's next requests back, not itself. Where nothing of a lower band finds room (KV memory), the next band may enter,
but not the one after it.

A tenant that had nothing unserved is lifted, when it comes back, to B below the least counter of those who have: it
may save up one bound and no more. So who asks for less than its share goes first, however long others' queues are.

**The bound (I7).** Let f and g have requests waiting in one lane's pool throughout [t1, t2]. S_i are the weighted
tokens served in it over the weight of i; a prompt counts when it is begun, an output token when it is out. P_i is the
most that i has on the workers at a time: prompt and whole answer of each request there (as expected or as it turns out,
whichever is more), weighted, over its weight. Then

    |S_f - S_g| <= 5 * B + 5 * P,   P the largest P_i of the lane.

Why: let A_i be served tokens and c_i the counter, both since the lane began, lifts included in both: what is charged
and not served, or served and not yet charged, is on the workers, so |c_i - A_i| <= P_i. When f last got a request in
before g's, its band was at most the one after g's: c_f < c_g + 2 B just before. From then on f is served at most what
it has on the workers, so A_f - A_g <= 2 B + 2 P at t2. At t1 the same holds the other way round; or one of them has
just come back, lifted to B below the least counter, say of h: then B and P more, since g is as near to h, and h may be
given back what it has on the workers. (VTC is the case of B = 0; bands are what leaves the policy a say.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sortedcontainers import SortedList

from scheduler_svc.core.choices import Choices
from scheduler_svc.core.job import Job

CLASS_BAND = float(1 << 42)
"""Bands of BE begin here, behind all of LS, where classes are lanes of their own."""

Group = tuple[int, str]
"""(lane in its model: 0, or 1 for BE; tenant): requests that are ordered by the policy alone among themselves."""
EVERYBODY: Group = (0, "")


@dataclass(frozen=True, slots=True)
class FairRules:
    """How shares are kept.

    Attributes:
        on: whether they are.
        apart: LS and BE are lanes of their own.
        bound: width of a band, weighted tokens.
        output_weight: input tokens that an output token counts.
    """

    on: bool
    apart: bool
    bound: float
    output_weight: float

    @classmethod
    def of(cls, choices: Choices, *, fair: bool, apart: bool) -> FairRules:
        """As chosen, for a policy that is fair by itself or not, and puts LS before BE or not."""
        on = fair if choices.fair_shares == "auto" else choices.fair_shares == "on"
        return cls(on, apart, float(choices.fair_bound_tokens), float(choices.output_token_weight))


@dataclass(frozen=True, slots=True)
class Share:
    """Where a tenant stands in its lane.

    Attributes:
        counter: weighted tokens charged so far, over its weight.
        ahead: of the tenant that is least ahead among those who have something unserved.
        yields: it is in a later band than that one.
    """

    counter: float
    ahead: float
    yields: bool


class Lane:
    """The counters of one lane.

    Attributes:
        counters: by tenant, weighted tokens over weight.
    """

    def __init__(self) -> None:
        self.counters: dict[str, float] = {}
        self._unserved: dict[str, int] = {}
        self._order: SortedList[tuple[float, str]] = SortedList()
        self._level = 0.0

    def least(self) -> float:
        """The least counter of those who have something unserved; where nobody has, of who had last."""
        return self._order[0][0] if self._order else self._level

    def wants(self, tenant: str, credit: float) -> None:
        """One more request of the tenant is unserved: it waits, or lost its seat.

        If nothing else of it was, its counter is lifted to `credit` below the least of those who have something.
        """
        count = self._unserved.get(tenant, 0)
        self._unserved[tenant] = count + 1
        if not count:
            counter = self.counters.get(tenant, 0.0)
            counter = self.counters[tenant] = max(counter, self.least() - credit)
            self._order.add((counter, tenant))

    def wants_no_more(self, tenant: str) -> None:
        """One of them got a seat, or ended."""
        count = self._unserved[tenant] - 1
        self._unserved[tenant] = count
        if not count:
            del self._unserved[tenant]
            counter = self.counters[tenant]
            self._order.remove((counter, tenant))
            self._level = counter

    def charge(self, tenant: str, amount: float) -> None:
        """Adds to a counter; less than 0 gives back."""
        before = self.counters.get(tenant, 0.0)
        after = self.counters[tenant] = before + amount
        if tenant in self._unserved:
            self._order.remove((before, tenant))
            self._order.add((after, tenant))


class FairShares:
    """The counters of every lane; it is told what happens to each job and says whose band changed.

    Args:
        rules: how shares are kept.
        weight: of a tenant.
        crossed: called with model and group when their band has changed.
    """

    def __init__(self, weight: Callable[[str], float], crossed: Callable[[str, Group], None]) -> None:
        self.rules = FairRules(on=False, apart=False, bound=1.0, output_weight=1.0)
        self._weight = weight
        self._crossed = crossed
        self._lanes: dict[tuple[str, int], Lane] = {}

    def take_rules(self, rules: FairRules) -> bool:
        """Other rules hold; True where all counters begin anew, so that the caller tells of every live job again."""
        old, self.rules = self.rules, rules
        same = (old.on, old.apart, old.output_weight) == (rules.on, rules.apart, rules.output_weight)
        if not same:
            self._lanes.clear()
        return not same

    def group(self, job: Job) -> Group:
        """Whom it is ordered among by the policy alone."""
        if not self.rules.on:
            return EVERYBODY
        behind = self.rules.apart and not job.spec.latency_sensitive
        return (1 if behind else 0, job.spec.tenant)

    def band(self, model: str, group: Group) -> float:
        """The band of a group: smaller goes first."""
        if not self.rules.on:
            return 0.0
        lane = self._lanes.get((model, group[0]))
        counter = lane.counters.get(group[1], 0.0) if lane is not None else 0.0
        return CLASS_BAND * group[0] + counter // self.rules.bound

    def band_of(self, job: Job) -> float:
        """The band of a job."""
        return self.band(job.spec.model, self.group(job)) if self.rules.on else 0.0

    def lane(self, model: str, group: Group) -> Lane:
        """Where a group competes."""
        found = self._lanes.get((model, group[0]))
        if found is None:
            found = self._lanes[model, group[0]] = Lane()
        return found

    def others_weight(self, job: Job) -> float:
        """Weights of the other tenants that the job's lane has known, over that of its own; 0 without fair shares."""
        if not self.rules.on:
            return 0.0
        group = self.group(job)
        known = self.lane(job.spec.model, group).counters
        return sum(self._weight(name) for name in known if name != group[1]) / self._weight(group[1])

    def share(self, tenant: str, model: str, *, latency_sensitive: bool) -> Share:
        """Where a tenant stands with its requests of a class."""
        lane = self._lanes.get((model, 1 if self.rules.apart and not latency_sensitive else 0))
        if lane is None:
            return Share(0.0, 0.0, yields=False)
        counter, least = lane.counters.get(tenant, 0.0), lane.least()
        return Share(counter, counter - least, counter // self.rules.bound > least // self.rules.bound)

    # -- what happens to a job

    def waits(self, job: Job) -> None:
        """It enters the pool; if nothing else of its tenant was unserved, the tenant is lifted."""
        if self.rules.on:
            self._unserve(job, lift=True)

    def places(self, job: Job) -> None:
        """It enters a worker: what it is expected to take is charged."""
        if self.rules.on:
            self._charge(job, self._expected(job))

    def seated(self, job: Job) -> None:
        """It has, or had not and now has, a seat."""
        if self.rules.on and job.unserved:
            job.unserved = False
            group = self.group(job)
            self.lane(job.spec.model, group).wants_no_more(group[1])

    def paused(self, job: Job) -> None:
        """It lost its seat; no lift, since its tenant had not gone away."""
        if self.rules.on and not job.unserved:
            self._unserve(job, lift=False)

    def estimated(self, job: Job) -> None:
        """A placed job got another prediction, or a window of output more."""
        if self.rules.on and job.worker is not None:
            self._charge(job, self._expected(job))

    def leaves(self, job: Job) -> None:
        """It leaves pool or worker: the charge is settled."""
        if not self.rules.on:
            return
        self.seated(job)
        self._charge(job, self._weighted(job, float(job.output_tokens), started=job.started))

    def begins_anew(self, job: Job) -> None:
        """A live job under rules that begin anew: what it had so far is forgotten."""
        job.unserved, job.charged = False, 0.0
        if not self.rules.on:
            return
        if job.worker is None:
            job.charged = self._weighted(job, float(job.output_tokens), started=job.started)
            self._unserve(job, lift=True)
            return
        job.charged = self._expected(job)
        if not job.seated:
            self._unserve(job, lift=True)

    # -- counting

    def _unserve(self, job: Job, *, lift: bool) -> None:
        job.unserved = True
        group = self.group(job)
        before = self.band(job.spec.model, group)
        credit = self.rules.bound if lift else math.inf
        self.lane(job.spec.model, group).wants(group[1], credit)
        self._moved(job.spec.model, group, before)

    def _expected(self, job: Job) -> float:
        answer = max(job.distribution.mean_remaining(job.output_tokens), 0.0) + job.output_tokens
        return self._weighted(job, answer, started=True)

    def _weighted(self, job: Job, output_tokens: float, *, started: bool) -> float:
        spec = job.spec
        prompt = spec.prompt_tokens if started else 0
        return prompt + self.rules.output_weight * (output_tokens - spec.received_tokens)

    def _charge(self, job: Job, total: float) -> None:
        """Brings what a job is charged to `total` weighted tokens."""
        if total == job.charged:
            return
        group, model = self.group(job), job.spec.model
        before = self.band(model, group)
        self.lane(model, group).charge(group[1], (total - job.charged) / self._weight(group[1]))
        job.charged = total
        self._moved(model, group, before)

    def _moved(self, model: str, group: Group, before: float) -> None:
        if self.band(model, group) != before:
            self._crossed(model, group)
