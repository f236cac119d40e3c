"""The invariants I1 to I5 (design: architecture, "Invariants"), checked inside EngineCore at every step.

Not for production: it looks at every block of every request. Switched on by FAIRLEAD_CHECK_STEPS=1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.request import Request, RequestStatus

from worker_svc.step_types import Held, StepLimits, StepPlan, StepRules

if TYPE_CHECKING:
    from worker_svc.engines.vllm_hook import RecordingScheduler


class StepChecker:
    """Watches one scheduler and collects what it finds broken, each with its invariant's number."""

    def __init__(self, scheduler: RecordingScheduler) -> None:
        self.checked_steps = 0
        self.found = 0
        self._scheduler = scheduler
        self._violations: list[str] = []
        self._accepted = 0
        self._ended: set[str] = set()
        self._delivered: dict[str, int] = {}

    def take(self) -> list[str]:
        """What was found since the last call."""
        violations, self._violations = self._violations, []
        return violations

    def added(self, request: Request) -> None:
        """A request came in."""
        self._expect(request.request_id not in self._delivered, f"I1: {request.request_id} was accepted twice")
        self._accepted += 1
        self._delivered[request.request_id] = 0

    def freed(self, request: Request) -> None:
        """A request ended."""
        self._expect(request.request_id not in self._ended, f"I1: {request.request_id} ended twice")
        self._ended.add(request.request_id)

    def scheduled(self, output: SchedulerOutput, plan: StepPlan, limits: StepLimits, rules: StepRules) -> None:
        """After a step was planned and vLLM has carried it out; nothing is computed yet."""
        self.checked_steps += 1
        self._check_memory()
        scheduler = self._scheduler
        for request_id in output.num_scheduled_tokens:
            request = scheduler.requests.get(request_id)
            live = request is not None and request.status == RequestStatus.RUNNING
            self._expect(live and request_id not in self._ended, f"I3: {request_id} runs and was not admitted")
        ids = {handle: entry.request.request_id for handle, entry in scheduler.book.by_handle.items()}
        planned = {ids[handle] for handle in plan.quotas}
        self._expect(
            planned == output.num_scheduled_tokens.keys(),
            f"I5: planned {len(planned)} sequences, vLLM runs {len(output.num_scheduled_tokens)}",
        )
        for handle, tokens in plan.quotas.items():
            given = output.num_scheduled_tokens.get(ids[handle], 0)
            self._expect(given <= tokens, f"I5: {handle} got {given} tokens, its quota is {tokens}")
        self._check_work_conserving(plan, limits, rules)
        self._check_account()

    def updated(self, scheduled: SchedulerOutput, outputs: dict[int, EngineCoreOutputs]) -> None:
        """After a step's tokens came back."""
        scheduler = self._scheduler
        queues = [scheduler.running, list(scheduler.waiting), list(scheduler.kv_holding_waiting)]
        queued = [request.request_id for queue in queues for request in queue]
        live = self._accepted - len(self._ended)
        self._expect(len(scheduler.requests) == live, f"I1: {live} requests live, vLLM holds {len(scheduler.requests)}")
        self._expect(
            len(queued) == len(set(queued)) and set(queued) == scheduler.requests.keys(),
            "I1: the queues are not what vLLM holds",
        )
        for message in outputs.values():
            for output in message.outputs:
                if not output.new_token_ids:
                    continue
                self._delivered[output.request_id] += len(output.new_token_ids)
                ran = output.request_id in scheduled.num_scheduled_tokens
                self._expect(ran, f"I3: {output.request_id} has tokens of a step without it")
                request = scheduler.requests.get(output.request_id)
                if request is not None:
                    same = request.num_output_tokens == self._delivered[output.request_id]
                    self._expect(same, f"I2: {output.request_id} has a gap or a repeat")
        self._check_memory()

    def _check_memory(self) -> None:
        scheduler = self._scheduler
        held = {
            block.block_id
            for manager in scheduler.kv_cache_manager.coordinator.single_type_managers
            for blocks in manager.req_to_blocks.values()
            for block in blocks
            if not block.is_null
        }
        used = scheduler.usable_blocks() - scheduler.free_blocks()
        self._expect(len(held) == used, f"I4: {used} blocks are in use, requests hold {len(held)}")
        if not scheduler.requests:
            self._expect(used == 0, f"I4: {used} blocks are left behind")

    def _check_account(self) -> None:
        """What the plan is made from is what vLLM holds."""
        scheduler = self._scheduler
        manager = scheduler.kv_cache_manager.coordinator.single_type_managers[0]
        for request_id, entry in scheduler.book.by_id.items():
            held = entry.held
            if held.resident and scheduler.book.is_current(entry):
                blocks = len(manager.req_to_blocks.get(request_id, ()))
                self._expect(held.blocks == blocks, f"I4: {held.handle} holds {blocks} blocks, not {held.blocks}")
                computed = entry.request.num_computed_tokens
                self._expect(held.context_tokens == computed, f"I4: {held.handle} has {computed} tokens computed")

    def _check_work_conserving(self, plan: StepPlan, limits: StepLimits, rules: StepRules) -> None:
        held = [entry.held for entry in self._scheduler.book.by_id.values()]
        bound_by_time = rules.step_budget and any(
            one.latency_sensitive and one.decoding and one.resident for one in held
        )
        seats = limits.seats if rules.step_seats is None else min(limits.slots, rules.step_seats)
        seats_left = max(1, seats) - len(plan.quotas)
        if plan.quotas and (bound_by_time or seats_left <= 0 or sum(plan.quotas.values()) >= limits.token_budget):
            return
        for one in held:
            if one.handle not in plan.quotas and one.handle not in plan.evict and self._fits(one, limits):
                self._expect(False, f"I5: {one.handle} fits and was left out")

    def _fits(self, held: Held, limits: StepLimits) -> bool:
        scheduler = self._scheduler
        if not held.admissible:
            return False
        free = scheduler.free_blocks()
        tokens = held.context_tokens + (1 if held.resident else held.left_tokens)
        needed = max(0, -(-tokens // limits.block_tokens) - held.blocks)
        if held.resident:
            return needed <= free
        spare = limits.watermark_blocks if scheduler.running else 0
        return len(scheduler.running) < limits.slots and needed + spare <= free

    def _expect(self, holds: object, violation: str) -> None:
        if not holds:
            self.found += 1
            if len(self._violations) < 20:
                self._violations.append(violation)
