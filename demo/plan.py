"""What the demo runs and how it is judged: settings, policies, targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VLLM_DEFAULT_SEATS_CPU = 128
"""vLLM 0.32's own `max_num_seqs` for an online server on a CPU (`EngineArgs.get_batch_defaults`)."""

DEFAULT_SEATS = "fcfs_default_seats"
BASELINE = "fcfs"


@dataclass(frozen=True)
class Settings:
    """How the demo runs.

    Attributes:
        seats: places in a step, the same for every policy but `fcfs_default_seats`.
        default_seats: vLLM's own default; also the slots of the worker, so that it can be tried without a restart.
        load: offered load as a multiple of the measured FCFS capacity.
        arrivals_s: length of the arrivals of each run.
        ttft_multiple, tpot_multiple: SLO targets as multiples of the idle TTFT and step time.
        finish_s: longest wait after the last arrival of a run.
    """

    engine: str
    model: str
    seats: int
    seeds: int
    out: Path
    default_seats: int = VLLM_DEFAULT_SEATS_CPU
    load: float = 1.5
    arrivals_s: float = 60.0
    calibrate_s: float = 20.0
    idle_requests: int = 18
    ttft_multiple: float = 10.0
    tpot_multiple: float = 5.0
    finish_s: float = 150.0
    predictor: str | None = None


@dataclass(frozen=True)
class Run:
    """One run of a seed: its label in the summary, the policy set, and the seats in a step."""

    label: str
    policy: str
    seats: int


def runs_of(settings: Settings, seed_index: int) -> list[Run]:
    """The runs of one seed; the order of the policies turns with the seed, so that none is always first."""
    seats = settings.seats
    runs = [
        Run(BASELINE, "fcfs", seats),
        Run("isrtf", "isrtf", seats),
        Run("slo", "slo", seats),
        Run(DEFAULT_SEATS, "fcfs", settings.default_seats),
    ]
    turn = seed_index % len(runs)
    return runs[turn:] + runs[:turn]


@dataclass(frozen=True)
class Target:
    """A figure of a policy held against the same figure under `fcfs`."""

    policy: str
    figure: str
    ratio: float
    at_most: bool
    words: str

    def met(self, ratio: float) -> bool:
        """Whether this ratio to `fcfs` reaches the target."""
        return ratio <= self.ratio if self.at_most else ratio >= self.ratio


TARGETS = (
    Target("slo", "ls_ttft_p99_ms", 0.2, True, "LS TTFT p99"),
    Target("slo", "all_jct_mean_ms", 0.8, True, "mean JCT of all"),
    Target("slo", "tokens_per_s", 0.97, False, "tokens per second"),
    Target("isrtf", "all_jct_mean_ms", 0.85, True, "mean JCT of all"),
)
