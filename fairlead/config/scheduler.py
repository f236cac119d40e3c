"""Settings of the scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from fairlead.config.base import Count, Positive, Section, Share
from fairlead.config.jobs import JobsConfig


class SchedulerConfig(Section):
    """The scheduler: one queue in front of all workers."""

    listen: str = "127.0.0.1:7600"
    """host:port for clients and operators; port 0 takes a free one."""
    policy: str = "slo"
    """Which order: one of docs/policies, or an installed plug-in's name."""
    policy_options: dict[str, dict[str, bool | int | float | str]] = Field(default_factory=dict)
    """Options by policy, `{rank: {quantum_tokens: 100}}`: of the one above and of any set later."""
    workers: tuple[str, ...] = ("127.0.0.1:7602",)
    """host:port of each worker, or a DNS name that stands for several (`dns:///worker:7602`)."""
    predictor: str | None = "127.0.0.1:7601"
    """host:port of the predictor, or a DNS name of several replicas (`dns:///predictor:7601`); null: class priors."""
    resolve_every_s: Positive = 3.0
    """How often DNS names of workers and predictors are asked again."""
    window_tokens: Count = 50
    """Tokens after which a running request is estimated again."""
    repredict: Literal["auto", "always", "never"] = "auto"
    """Ask the predictor again every window: as the policy wants, for all policies alike, or never."""
    predict_timeout_ms: Positive = 2000.0
    """An answer of the predictor that is later than this counts as missing."""
    look_ahead: Annotated[int, Field(ge=0)] = 2
    """Requests that a worker holds beyond its seats, so that a freed seat never waits for the network."""
    step_seats: Count | None = None
    """Places in a step on each worker; null: each worker's own."""
    be_share: Share = 0.05
    """Share of a step's seats that the oldest BE request gets over time, one at most; 0: none."""
    max_itl_factor: Positive = 4.0
    """Longest step while LS decodes run, in multiples of the least TPOT target among them."""
    kv_admission: Literal["auto", "none", "peak"] = "auto"
    """Whether a request enters a worker only while its predicted KV peak fits; auto: as the policy has it."""
    admission: Literal["none", "guards", "dp_soft"] = "none"
    """Who may be LS: everyone, whom SCORPIO's guards let in, or whom SLOs-Serve's dynamic programme picks."""
    chunking: Literal["auto", "fixed", "slack"] = "auto"
    """Prefill of a step: as the policy's step budget has it, a fixed number of tokens, or by the least LS slack."""
    chunk_tokens: Count | None = None
    """Most prefill tokens in a step under `chunking: fixed`; null: the engine's token budget."""
    batching: Literal["rank", "credit"] = "rank"
    """Everyone in rank order, or LS decodes by SCORPIO's credits: loose targets take part in fewer steps."""
    overload: Literal["auto", "queue", "reject", "relegate"] = "auto"
    """Who would miss its target waits, is refused or becomes BE; auto: as the policy has it (`slo`: reject)."""
    placement: str = "min_load"
    """Which worker takes a request: round_robin, min_load, freeness, max_min, waiting_time, or a plug-in's."""
    predict: Literal["always", "skip", "delay"] = "always"
    """Ask the predictor about every request, about those that look long, or about those that turn out long."""
    predict_tokens: Count = 100
    """What counts as long under `predict: skip` and `delay`, output tokens."""
    fair_shares: Literal["auto", "on", "off"] = "auto"
    """Tenants share what is served by their weights, inside each class; auto: as the policy has it (`slo`: on)."""
    fair_bound_tokens: Count = 8_192
    """A tenant ahead by more weighted tokens than this yields; inside it the policy's order stands."""
    output_token_weight: Count = 4
    """Input tokens that an output token counts in a fair share."""
    class_tiers: bool | None = None
    """An ingredient of a step's rules; null: as the policy has it. LS before BE at each step."""
    relegate_late: bool | None = None
    """Likewise: an LS prefill that has missed its target moves behind those that have not."""
    hold_be_decodes: bool | None = None
    """Likewise: the step budget holds back BE decodes too, not only BE prefill."""
    min_chunk_tokens: Annotated[int, Field(ge=0)] | None = None
    """Likewise: prefill that the most urgent LS request gets however little time is left (512 where not said)."""
    max_queued_requests: Count = 10_000
    """Waiting requests in all; at the bound a typed refusal with a retry delay."""
    max_queued_per_tenant: Count = 8_000
    """The same for one tenant, so that one cannot fill the queue."""
    max_queued_per_class: Count = 8_000
    """The same for one class (LS, BE), so that best-effort work cannot fill the queue against the rest."""
    max_prompt_bytes: Count = 1_000_000
    """A longer prompt is refused, in bytes of UTF-8."""
    default_max_tokens: Count = 512
    """Most output tokens of a request that states none."""
    max_lifetime_s: Positive = 3600.0
    """A request ends EXPIRED after this, whatever deadline its client gave."""
    resume_grace_ms: Annotated[int, Field(ge=0)] = 0
    """How long a request goes on without its client if it states nothing; 0: it is cancelled at once."""
    max_resume_grace_ms: Annotated[int, Field(ge=0)] = 120_000
    """Longest such time that a client may ask for."""
    finished_kept: Count = 10_000
    """Ended requests whose outcome can still be asked for by id."""
    max_buffered_tokens: Count = 16_384
    """Tokens a client may lag behind before it is cut as a slow reader."""
    state_dir: Path | None = None
    """Where leadership epoch, what operators change, audit log and usage are kept; null: the user's state folder."""
    tenants_file: Path | None = None
    """YAML file of more tenants (`tenants: [...]`), read again when it changes and on SIGHUP; null: none."""
    tenants_watch_s: Positive = 2.0
    """How often that file, and the key files of tenants, are looked at for changes."""
    key_overlap_s: Annotated[float, Field(ge=0, le=31_536_000)] = 86_400.0
    """How long a replaced API key still counts, where the operator who replaces it says nothing else."""
    audit_max_mb: Annotated[float, Field(ge=0.01, le=4096)] = 16.0
    """The audit log of admin changes, MB in all; the older half goes when it is full."""
    usage_keep_days: Positive = 92.0
    """Usage by tenant that is older goes."""
    journal: SecretStr | None = None
    """Where durable jobs lie: null for SQLite in `state_dir`, `sqlite:////FOLDER/FILE`, `postgresql://USER@HOST/DATABASE`,
    or `memory` (they end with the process)."""
    jobs: JobsConfig = JobsConfig()
    """Durable jobs: what may be submitted, how much of it runs at once, how long it is kept."""
    why_events: Annotated[int, Field(ge=8, le=1000)] = 64
    """Newest moments of each request that `fairlead why` can tell of; older ones are left out, and it says so."""
    why_finished: Annotated[int, Field(ge=0, le=100_000)] = 1000
    """Ended requests that `fairlead why` can still explain."""
    decision_log: Path | None = None
    """Folder in which events and decisions are recorded, for `fairlead simulate --from-log`; null: nowhere."""
    decision_log_segment_mb: Annotated[float, Field(ge=0.01, le=4096)] = 64.0
    """A file of the decision log is closed and gzipped at this size (MB), or after an hour."""
    decision_log_max_mb: Annotated[float, Field(ge=0.01)] = 1024.0
    """All files of the decision log together, MB; the oldest go first."""
    decision_log_keep_days: Positive = 7.0
    """Files of the decision log that are older go."""
    decision_log_tenant_names: bool = False
    """Write the names of tenants into the decision log; false: a keyed hash that only this process can repeat."""
