"""vLLM's scheduler with the order made by `plan_step` at each step; lives in the EngineCore process.

vLLM names one of these classes in `scheduler_cls`, so that process imports this module, which also adds the utility
methods by which ranks come down (`UTILITY_METHODS`). The plan is only carried out here: token quotas through
`_reserve_prefill_lookahead`, which vLLM asks for running and waiting requests alike (0 pauses a running one and ends
the scan of waiting ones), evictions through `_preempt_request`, admissions through the order of `waiting`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, cast

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.engine.core import EngineCore
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from worker_svc.be_share import FULL
from worker_svc.engines.base import ChangeKind
from worker_svc.engines.vllm_book import Book
from worker_svc.engines.vllm_checks import StepChecker
from worker_svc.engines.vllm_guard import ProcessGuard
from worker_svc.engines.vllm_wire import EXTRA_KEY, StepRecord, unpack_rules
from worker_svc.ordering import plan_step
from worker_svc.step_time import StepTimeFit
from worker_svc.step_types import StepLimits, StepPlan, StepRules
from worker_svc.whole_steps import all_take_part, share_after_whole_step

CHECK_VARIABLE = "FAIRLEAD_CHECK_STEPS"
"""Environment variable: 1 checks the invariants at every step and ends the engine with what it found broken."""

_priority = attrgetter("priority")


class RecordingScheduler(Scheduler):
    """vLLM's own order, untouched; notes what each step did and how long it took."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = cast(dict[str, Any], self.vllm_config.additional_config)[EXTRA_KEY]
        self.seats: int = settings["step_seats"]
        self.guard = ProcessGuard()
        self._cpus: list[int] | None = settings["cpus"]
        self.book = Book(self.block_size, self.max_model_len)
        self.fit = StepTimeFit()
        self.checker = StepChecker(self) if os.environ.get(CHECK_VARIABLE) == "1" else None
        self.steps = 0
        self.step_ms = 0.0
        self._changes: list[tuple[int, ChangeKind]] = []
        self._seated: set[str] = set()
        # (prefill tokens, decodes, context tokens, start in ms) of each step whose output is still to come.
        self._in_flight: deque[tuple[int, int, int, float]] = deque()
        self._updated_ms = 0.0
        self._was_busy = False
        self._sent_model: object = None

    def usable_blocks(self) -> int:
        """KV blocks that requests can hold (one is vLLM's own null block)."""
        return self.kv_cache_manager.block_pool.num_gpu_blocks - 1

    def free_blocks(self) -> int:
        """KV blocks that nobody holds, cached ones included."""
        return self.kv_cache_manager.block_pool.get_num_free_blocks()

    def add_request(self, request: Request) -> None:
        """Takes a request and opens its record."""
        super().add_request(request)
        self.book.add(request)
        if self.checker:
            self.checker.added(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Notes who takes part and what the step should cost."""
        if self._cpus:
            # Now, not at the start: EngineCore's own threads to its front end would inherit it, and each message to or
            # from there would interrupt a step.
            os.sched_setaffinity(0, self._cpus)
            self._cpus = None
        now_ms = time.monotonic() * 1e3
        self.book.refresh()
        output = super().schedule(throttle_prefills)
        self._note_scheduled(output, self._updated_ms if self._was_busy else now_ms)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """Measures the step; the record of it leaves with the tokens, through `make_stats`."""
        if scheduler_output.total_num_scheduled_tokens:
            prefill, decodes, context, start_ms = self._in_flight.popleft()
            now_ms = time.monotonic() * 1e3
            self.steps += 1
            self.step_ms = now_ms - max(start_ms, self._updated_ms)
            self.fit.observe(prefill, decodes, context, self.step_ms)
            self._updated_ms = now_ms
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        self._was_busy = bool(self.running or self.waiting)
        if self.checker:
            self.checker.updated(scheduler_output, outputs)
        return outputs

    def make_stats(self, *_args: Any, **_kwargs: Any) -> SchedulerStats:
        """The step's record, in the message that carries its tokens."""
        self.book.note_first_tokens(time.monotonic() * 1e3)
        running, waiting = self.get_request_counts()
        used = self.usable_blocks() - self.free_blocks()
        record = StepRecord(self.steps, self.step_ms, used, running, waiting, self._changes)
        model = self.fit.model()
        if model is not self._sent_model:
            self._sent_model = record.model = model
            record.relative_error = self.fit.relative_error
        if self.checker:
            record.violations = self.checker.take()
        self._changes = []
        return SchedulerStats(num_running_reqs=running, num_waiting_reqs=waiting, kv_connector_stats=record.packed())

    def inspect(self) -> dict[str, float]:
        """State for tests and debugging; times in ms."""
        return {
            "pid": os.getpid(),
            "steps": self.steps,
            "kv_blocks": self.usable_blocks(),
            "kv_blocks_free": self.free_blocks(),
            "held": len(self.requests),
            "booked": len(self.book.by_id),
            "checked_steps": self.checker.checked_steps if self.checker else 0,
            "violations": self.checker.found if self.checker else 0,
        }

    def _note_scheduled(self, output: SchedulerOutput, start_ms: float) -> None:
        scheduled = output.num_scheduled_tokens
        by_id = self.book.by_id
        if scheduled:
            self._in_flight.append((*self.book.advance(scheduled), start_ms))
        now = set(scheduled)
        for request_id in now - self._seated:
            entry = by_id[request_id]
            entry.held.seated = True
            kind = ChangeKind.RESUMED if entry.ever_scheduled else ChangeKind.STARTED
            self._changes.append((entry.held.handle, kind))
            entry.ever_scheduled = True
        for request_id in self._seated - now:
            entry = by_id.get(request_id)
            if entry is not None:
                entry.held.seated = False
                entry.held.unseated_ms = start_ms
                if entry.request.status == RequestStatus.RUNNING and not self.book.is_ending(entry):
                    self._changes.append((entry.held.handle, ChangeKind.PAUSED))
        self._seated = now

    def _preempt_request(self, request: Request, timestamp: float, drop_stale_output: bool = False) -> None:
        super()._preempt_request(request, timestamp, drop_stale_output)
        entry = self.book.by_id[request.request_id]
        self.book.touch((request.request_id,))
        self._changes.append((entry.held.handle, ChangeKind.EVICTED))

    def _free_request(self, request: Request, delay_free_blocks: bool = False) -> Any:
        self.book.forget(request.request_id)
        if self.checker:
            self.checker.freed(request)
        return super()._free_request(request, delay_free_blocks)


class OrderedScheduler(RecordingScheduler):
    """Our order at each step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rules = StepRules()
        self._quotas: dict[str, int] = {}
        self._groups = max(1, len(self.kv_cache_config.kv_cache_groups))
        self._share = FULL
        self._plan_ms = 0.0
        self._hook_ms = 0.0
        self._plans = 0

    def set_order(self, handles: Sequence[int], rules: StepRules | None) -> None:
        """Newest ranks, most urgent first, and newest rules; applied at the next step."""
        self.book.set_order(handles)
        if rules is not None:
            self.rules = rules

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """Plans the step, then lets vLLM carry it out within the plan's quotas."""
        if not self.book.by_id:
            self._quotas = {}
            return super().schedule(throttle_prefills)
        begun = time.perf_counter()
        self.book.refresh()
        planning = time.perf_counter()
        limits = self._limits()
        plan = None if self._plan_whole(limits) else self._plan(limits)
        planned = time.perf_counter()
        if plan is not None:
            if plan.evict:
                limits, plan = self._evict(limits, plan)
            self._arrange(plan)
        self._plans += 1
        self._plan_ms += (planned - planning) * 1e3
        self._hook_ms += (time.perf_counter() - planned + planning - begun) * 1e3
        checked = list(self.book.by_handle) if self.checker else []
        output = super().schedule(throttle_prefills)
        if self.checker:
            self.checker.scheduled(output, plan or StepPlan(dict.fromkeys(checked, 1), checked), limits, self.rules)
        return output

    def inspect(self) -> dict[str, float]:
        """State for tests and debugging; mean times a step in ms."""
        plans = max(1, self._plans)
        means = {"plan_ms": self._plan_ms / plans, "hook_ms": self._hook_ms / plans}
        return super().inspect() | {"plans": self._plans, **means}

    def _limits(self) -> StepLimits:
        return StepLimits(
            token_budget=self.max_num_scheduled_tokens,
            seats=self.seats,
            slots=self.max_num_active_reqs,
            free_blocks=self.free_blocks() // self._groups,
            block_tokens=self.block_size,
            chunked_prefill=bool(self.scheduler_config.enable_chunked_prefill),
            watermark_blocks=self.kv_cache_manager.watermark_blocks,
        )

    def _plan(self, limits: StepLimits) -> StepPlan:
        held = [entry.held for entry in self.book.by_id.values()]
        return plan_step(held, limits, self.rules, self.fit.model(), time.monotonic() * 1e3, self._share)

    def _plan_whole(self, limits: StepLimits) -> bool:
        """Sets the quotas of a step in which all take part; False where that is not known without an order."""
        decodes = self.book.decodes()
        if decodes is None or not all_take_part(decodes, limits, self.rules, self.fit.model()):
            return False
        self._quotas = dict.fromkeys(self.book.by_id, 1)
        self._share = share_after_whole_step(decodes, self._share, limits, self.rules)
        return True

    def _evict(self, limits: StepLimits, plan: StepPlan) -> tuple[StepLimits, StepPlan]:
        """Carries the plan's evictions out, but first makes sure that they free what the plan counts on.

        Blocks that a victim shares with another (prefix cache) stay held: the victim would be lost for nothing, at
        every step anew. So the victims' blocks are counted exactly and the step planned again where it differs.
        """
        for _ in range(len(self.running)):
            overstated = False
            for handle in plan.evict:
                held = self.book.by_handle[handle].held
                private = self._private_blocks(self.book.requests[handle].request_id)
                overstated |= private < held.blocks
                held.blocks = min(held.blocks, private)
            if not overstated:
                break
            self.book.touch(self.book.requests[handle].request_id for handle in plan.evict)
            limits = self._limits()
            plan = self._plan(limits)
        now = time.monotonic()
        for handle in plan.evict:
            victim = self.book.requests[handle]
            self.running.remove(victim)
            self._preempt_request(victim, now)
        return limits, plan

    def _private_blocks(self, request_id: str) -> int:
        """Blocks (of one KV group) that come free if this request gives its own up."""
        managers = self.kv_cache_manager.coordinator.single_type_managers
        return min(
            sum(block.ref_cnt == 1 for block in manager.req_to_blocks.get(request_id, ())) for manager in managers
        )

    def _arrange(self, plan: StepPlan) -> None:
        """Quotas by request; priorities, so that vLLM's own KV-shortage victims and admissions follow the plan.

        What is saved up for the steps to come is kept as well.
        """
        for handle, credit in plan.credits.items():
            self.book.by_handle[handle].held.credit = credit
        self._share = plan.share
        requests = self.book.requests
        for place, handle in enumerate(plan.order):
            requests[handle].priority = place
        for place, handle in enumerate(plan.admit, -len(plan.admit)):
            requests[handle].priority = place
        self._quotas = {requests[handle].request_id: tokens for handle, tokens in plan.quotas.items()}
        self.running.sort(key=_priority)
        for queue in (self.waiting, self.kv_holding_waiting):
            if queue:
                cast(Any, queue)._heap.sort(key=_priority)  # a sorted list is a heap

    def _reserve_prefill_lookahead(self, request: Request, num_computed_tokens: int, num_new_tokens: int) -> int:
        allowed = super()._reserve_prefill_lookahead(request, num_computed_tokens, num_new_tokens)
        return min(allowed, self._quotas.get(request.request_id, 0))


class RecordingAsyncScheduler(RecordingScheduler, AsyncScheduler):
    """`RecordingScheduler` where a step is scheduled while the last one runs (GPU)."""


class OrderedAsyncScheduler(OrderedScheduler, AsyncScheduler):
    """`OrderedScheduler` where a step is scheduled while the last one runs (GPU)."""


def _order(core: EngineCore, handles: list[int], rules: list[Any] | None) -> None:
    if isinstance(core.scheduler, OrderedScheduler):
        core.scheduler.set_order(handles, unpack_rules(rules))


def _inspect(core: EngineCore) -> dict[str, float]:
    return cast(RecordingScheduler, core.scheduler).inspect()


def _release(core: EngineCore) -> None:
    cast(RecordingScheduler, core.scheduler).guard.release()


UTILITY_METHODS = {"fairlead_order": _order, "fairlead_inspect": _inspect, "fairlead_release": _release}
"""Methods that EngineCore gains in its process; called with `engine_core.call_utility_async(name, ...)`."""

for _name, _method in UTILITY_METHODS.items():
    setattr(EngineCore, _name, _method)
