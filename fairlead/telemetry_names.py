"""Names in traces and metrics.

`gen_ai.*`, `error.type`, `server.*` and `rpc.*` are OpenTelemetry's semantic conventions, written out here so that the
light client needs no package of them; a test holds them against `opentelemetry-semantic-conventions`. What the
conventions have no name for is `fairlead.*`.
"""

from __future__ import annotations

from typing import Final

# Spans
ADMIT: Final = "admit"
PREDICT: Final = "predict"
QUEUE: Final = "queue"
EXECUTE: Final = "execute"
PREFILL: Final = "prefill"
DECODE: Final = "decode"
JOB_LINE: Final = "job line"
GENERATE_RPC: Final = "fairlead.v1.InferenceService/Generate"

# Events of spans
FIRST_TOKEN: Final = "first_token"
PLACED: Final = "placed"
ATTACHED: Final = "attached"
STREAM_BROKE: Final = "stream_broke"
PREDICTED_AGAIN: Final = "predicted_again"

# Semantic conventions
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
REQUEST_FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
TIME_TO_FIRST_TOKEN: Final = "gen_ai.server.time_to_first_token"
TIME_PER_OUTPUT_TOKEN: Final = "gen_ai.server.time_per_output_token"
REQUEST_DURATION: Final = "gen_ai.server.request.duration"

# Values of them
PROVIDER: Final = "fairlead"
CHAT: Final = "chat"
TEXT_COMPLETION: Final = "text_completion"

# Attributes of our own
TENANT: Final = "fairlead.tenant"
SERVICE_CLASS: Final = "fairlead.service_class"
POLICY: Final = "fairlead.policy"
OUTCOME: Final = "fairlead.outcome"
WORKER_ID: Final = "fairlead.worker_id"
ATTEMPT: Final = "fairlead.attempt"
ATTEMPTS: Final = "fairlead.attempts"
PAUSES: Final = "fairlead.pauses"
EVICTIONS: Final = "fairlead.evictions"
QUEUE_MS: Final = "fairlead.queue_ms"
TTFT_MS: Final = "fairlead.ttft_ms"
TPOT_MS: Final = "fairlead.tpot_ms"
TTFT_TARGET_MS: Final = "fairlead.slo.ttft_ms"
TPOT_TARGET_MS: Final = "fairlead.slo.tpot_ms"
COMPLETION_TARGET_MS: Final = "fairlead.slo.completion_ms"
PREDICTOR: Final = "fairlead.predictor"
PREDICTED_P50_TOKENS: Final = "fairlead.predicted.p50_tokens"
PREDICTED_P90_TOKENS: Final = "fairlead.predicted.p90_tokens"
GENERATED_TOKENS: Final = "fairlead.generated_tokens"
PROMPT_TOKENS: Final = "fairlead.prompt_tokens"
FORCED_TOKENS: Final = "fairlead.forced_tokens"
REASON: Final = "fairlead.reason"

# Labels of metrics: short, since people type them into queries
TENANT_LABEL: Final = "tenant"
CLASS_LABEL: Final = "class"
OTHER: Final = "other"
