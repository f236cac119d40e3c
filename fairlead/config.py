"""One typed configuration for all services; every default is stated here, once.

Read from a YAML file (`FAIRLEAD_CONFIG` or `--config`) and from the environment, which wins:
`FAIRLEAD_SCHEDULER__POLICY=fcfs` sets `scheduler.policy`. Unknown names are errors, not surprises.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

ClassName = Literal["ls", "be"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]

PROTOCOL_VERSION = 1
"""Version of the worker and predictor protocols; a peer of another version is refused at the first message."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest gRPC message any service takes; a longer prompt is refused by the transport before it is parsed."""


class ConfigError(Exception):
    """A configuration that can't be used; the message names the field and the remedy."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassDefaults(_Section):
    """Targets of requests that state none."""

    ls_ttft_ms: Positive = 1000.0
    """Time-to-first-token target of an LS request that states none."""
    ls_tpot_ms: Positive = 50.0
    """Time-per-output-token target of such a request, as a mean over its answer."""
    be_completion_ms: Positive | None = None
    """Time to the last token of a BE request that states none; null: it has no target."""


class Tenant(_Section):
    """Who may ask, with which credential, for what."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    """Lower-case letters, digits, - and _; it stands in metrics, logs and `fairlead status`."""
    key: SecretStr | None = None
    """The API key itself; for a first evening. Prefer `key_sha256`, `key_env` or `key_file`."""
    key_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Hex SHA-256 of the key."""
    key_env: str | None = None
    """Name of the environment variable that holds the key."""
    key_file: Path | None = None
    """File that holds the key, such as a mounted secret; `fairlead-scheduler --make-keys` writes a missing one."""
    weight: Positive = 1.0
    """Kept for tenant shares; nothing reads it yet."""
    classes: tuple[ClassName, ...] = ("ls", "be")
    """What this tenant may ask for; another class is served as its default one, and `accepted` says so."""
    default_class: ClassName = "be"
    """Class of requests that name none; one of `classes`."""
    operator: bool = False
    """May use the admin service and give length hints."""

    @model_validator(mode="after")
    def _one_credential(self) -> Tenant:
        if sum(value is not None for value in (self.key, self.key_sha256, self.key_env, self.key_file)) != 1:
            raise ValueError(f"tenant {self.name!r}: give exactly one of key, key_sha256, key_env, key_file")
        if self.default_class not in self.classes:
            raise ValueError(f"tenant {self.name!r}: default_class {self.default_class!r} is not among its classes")
        return self

    def key_digest(self) -> bytes:
        """SHA-256 of this tenant's key (32 bytes); raises ConfigError where `read_key` does."""
        if self.key_sha256 is not None:
            return bytes.fromhex(self.key_sha256)
        return hashlib.sha256(self.read_key().encode()).digest()

    def read_key(self) -> str:
        """The key itself, from wherever it is kept.

        Raises:
            ConfigError: only its hash is known, `key_env` names nothing, or `key_file` can't be read or is empty.
        """
        if self.key is not None:
            return self.key.get_secret_value()
        if self.key_file is not None:
            return self._key_from(self.key_file)
        if self.key_env is None:
            raise ConfigError(f"tenant {self.name!r}: only the hash of its key is configured (key_sha256)")
        key = os.environ.get(self.key_env)
        if not key:
            raise ConfigError(f"tenant {self.name!r}: environment variable {self.key_env!r} (key_env) is not set")
        return key

    def _key_from(self, file: Path) -> str:
        remedy = "write the key there, or let `fairlead-scheduler --make-keys` make one"
        try:
            key = file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise ConfigError(f"tenant {self.name!r}: {file} (key_file) does not exist; {remedy}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"tenant {self.name!r}: {file} (key_file) can't be read: {error}") from None
        if not key:
            raise ConfigError(f"tenant {self.name!r}: {file} (key_file) is empty; {remedy}")
        return key


class SchedulerConfig(_Section):
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
    """host:port of the predictor; null: class priors alone."""
    resolve_every_s: Positive = 3.0
    """How often DNS names among the workers are asked again."""
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
    overload: Literal["queue", "reject", "relegate"] = "queue"
    """A request that will miss its target waits, is refused with a retry delay, or is served as BE."""
    placement: str = "min_load"
    """Which worker takes a request: round_robin, min_load, freeness, max_min, waiting_time, or a plug-in's."""
    predict: Literal["always", "skip", "delay"] = "always"
    """Ask the predictor about every request, about those that look long, or about those that turn out long."""
    predict_tokens: Count = 100
    """What counts as long under `predict: skip` and `delay`, output tokens."""
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
    """Where the leadership epoch is kept; null: the user's state folder."""
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


class PredictorConfig(_Section):
    """The predictor: text in, length distribution out."""

    listen: str = "127.0.0.1:7601"
    """host:port for the scheduler; no key is asked for."""
    predictor: str = "encoder"
    """Which one: a name of docs/predictors.md, or an installed plug-in's."""
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hugging Face id or folder; the packaged weights serve where the hub is not reached."""
    head: Path | None = None
    """Folder of a trained head (`fairlead predictor train`); null: the one shipped for the demo model."""
    max_batch: Count = 32
    """Questions that are answered in one batch."""
    max_queued: Count = 4096
    """Questions that may wait; more are refused, and those requests go on without a prediction."""
    threads: Count = 1
    """CPU threads of the encoder and the model."""
    answer_within_ms: Positive = 250.0
    """A question that waits longer is answered from the history of lengths at once."""
    calibrate: bool = True
    """Correct intervals from outcomes while serving, and put a predictor aside that is worse than `history`."""
    state_dir: Path | None = None
    """Folder that keeps what is learned while serving over a restart, one for each process; null: nothing is kept."""
    share_text: bool = False
    """Let `retrieval` answer a tenant from prompts of others; false: only from its own and what it was trained on."""


class WorkerConfig(_Section):
    """A worker: a gRPC server round one engine."""

    listen: str = "127.0.0.1:7602"
    """host:port for the scheduler; no key is asked for."""
    worker_id: str | None = None
    """Stable name; null: host name and port."""
    engine: str = "vllm"
    """`vllm`, `simulated` (no model is loaded), or an installed plug-in's name."""
    model: str = "demo"
    """Hugging Face id, local folder, or `demo` for the shipped model."""
    served_model: str | None = None
    """Name that clients ask for; null: the last part of `model`."""
    slots: Count = 48
    """Sequences resident in the engine (vLLM's max_num_seqs); more than seats, since a pause keeps its slot."""
    step_seats: Count = 16
    """Places in a step; at most `slots`."""
    step_token_budget: Count = 2048
    """Tokens in a step, prefill and decode together (vLLM's max_num_batched_tokens); at least `slots`."""
    max_context_tokens: Count | None = None
    """Prompt and answer of one request; null: what the model allows."""
    kv_blocks: Count | None = None
    """KV cache blocks; null: what the engine finds room for."""
    kv_block_tokens: Count = 32
    """Tokens in a KV cache block: a multiple of 16, on a CPU of 32."""
    max_held: Count = 256
    """Requests held at once, waiting ones included."""
    dtype: str = "auto"
    """Of the weights, in vLLM's words: auto, bfloat16, float16, float32."""
    enforce_eager: bool | None = None
    """No compiled graphs; null: none on a CPU, vLLM's own choice on a GPU."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of a GPU's memory that vLLM may take."""
    tensor_parallel_size: Count = 1
    """GPUs that one worker spreads the model over."""
    engine_cpus: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """CPUs of the engine's main thread on a CPU build; null: any. `fairlead up` keeps one free of everything else."""
    scheduling: Literal["fairlead", "vllm-fcfs", "vllm-priority"] = "fairlead"
    """`fairlead`: our order at each step; the others are vLLM's own, for comparison."""
    simulated_step_ms: tuple[float, float, float, float] = (6.0, 0.045, 0.05, 0.00025)
    """c0..c3 of the simulated engine's step time."""
    simulated_answer_tokens: Count = 128
    """Median answer of the simulated engine."""
    seed: int = 0
    """Of sampling where a request states none."""

    @field_validator("kv_block_tokens")
    @classmethod
    def _whole_blocks(cls, value: int) -> int:
        if value % 16:
            raise ValueError("kv_block_tokens must be a multiple of 16 (of 32 on a CPU)")
        return value

    @model_validator(mode="after")
    def _seats_fit(self) -> WorkerConfig:
        if self.step_seats > self.slots:
            raise ValueError(f"step_seats ({self.step_seats}) must not exceed slots ({self.slots})")
        return self


class LogConfig(_Section):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written; `debug` has a line for each request's end."""
    format: Literal["console", "json"] = "console"
    """`console` for people, `json` for programs."""


class PrometheusConfig(_Section):
    """Where each service shows its metrics page to Prometheus, host:port (port 0: a free one); null: nowhere."""

    scheduler: str | None = None
    """Page of the scheduler."""
    predictor: str | None = None
    """Page of the predictor."""
    worker: str | None = None
    """Page of a worker; `fairlead up --workers N` takes N ports from this one on."""

    @field_validator("scheduler", "predictor", "worker")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        host, _, port = (value or "127.0.0.1:0").rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{value!r} is not host:port, e.g. 127.0.0.1:9464")
        return value


class TelemetryConfig(_Section):
    """Traces and metrics by OpenTelemetry, all off by default. The standard OTEL_* variables fill in what is null."""

    traces: bool = False
    """Send one trace a request by OTLP."""
    metrics: bool = False
    """Send metrics by OTLP; a page for Prometheus needs only `prometheus`."""
    endpoint: str | None = None
    """OTLP receiver, http://host:4317 (https:// for TLS); null: OTEL_EXPORTER_OTLP_ENDPOINT, else this host."""
    protocol: Literal["grpc"] = "grpc"
    """OTLP over gRPC is the only one."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of requests traced where the client has not decided; null: OTEL_TRACES_SAMPLER, else all."""
    metrics_every_s: Positive | None = None
    """Between two exports; null: OTEL_METRIC_EXPORT_INTERVAL, else 60 s."""
    prometheus: PrometheusConfig = PrometheusConfig()
    """Pages for Prometheus, one a service."""
    tenant_labels: Annotated[int, Field(ge=0, le=1000)] = 20
    """Tenants, in the order of the configuration, that metrics name; all others count together as `other`."""
    capture_content: bool = False
    """Put prompts and answers into traces: whoever reads the traces then reads what tenants wrote."""
    max_content_chars: Count = 4096
    """Of a prompt or answer in a trace."""

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"{value!r} must begin with http:// (or https:// for TLS), e.g. http://localhost:4317")
        return value


class Config(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(
        env_prefix="FAIRLEAD_", env_nested_delimiter="__", extra="forbid", frozen=True, yaml_file=None
    )

    scheduler: SchedulerConfig = SchedulerConfig()
    """Read by the scheduler."""
    predictor: PredictorConfig = PredictorConfig()
    """Read by the predictor."""
    worker: WorkerConfig = WorkerConfig()
    """Read by each worker."""
    defaults: ClassDefaults = ClassDefaults()
    """Read by the scheduler."""
    tenants: tuple[Tenant, ...] = ()
    """Read by the scheduler."""
    log: LogConfig = LogConfig()
    """Read by all services."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """Read by all services."""

    @field_validator("tenants")
    @classmethod
    def _names_differ(cls, value: tuple[Tenant, ...]) -> tuple[Tenant, ...]:
        names = [tenant.name for tenant in value]
        if len(set(names)) != len(names):
            raise ValueError("two tenants have one name")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def load_config(path: Path | None = None) -> Config:
    """Reads `path` (or the file that FAIRLEAD_CONFIG names, or none) and the environment.

    Raises:
        ConfigError: the file is missing or not YAML, or a value does not fit; the message names each field.
    """
    chosen = path or (Path(os.environ["FAIRLEAD_CONFIG"]) if os.environ.get("FAIRLEAD_CONFIG") else None)
    if chosen is not None and not chosen.is_file():
        raise ConfigError(f"configuration file {chosen} does not exist; give another with --config")

    class Sourced(Config):
        model_config = SettingsConfigDict(yaml_file=chosen)

    try:
        return Sourced()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'configuration'}: {item['msg']}" for item in error.errors()]
        raise ConfigError(f"{chosen or 'environment'}: " + "; ".join(lines)) from None
    except (ValueError, OSError) as error:
        raise ConfigError(f"{chosen}: {error}") from None
