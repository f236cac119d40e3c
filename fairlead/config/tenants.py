"""Who may ask, with which credentials, for what; and what holds for requests that say nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fairlead.config.base import ClassName, Count, Positive, Section
from fairlead.config.credentials import KEY_FIELDS, Credential, KeySource


class ClassDefaults(Section):
    """Targets of requests that state none."""

    ls_ttft_ms: Positive = 1000.0
    """Time-to-first-token target of an LS request that states none."""
    ls_tpot_ms: Positive = 50.0
    """Time-per-output-token target of such a request, as a mean over its answer."""
    be_completion_ms: Positive | None = None
    """Time to the last token of a BE request that states none; null: it has no target."""


class TenantSlo(Section):
    """Targets of a tenant's requests that state none; null: those of its class (`defaults`)."""

    ttft_ms: Positive | None = None
    """Time to first token of its LS requests that state none; null: `defaults.ls_ttft_ms`."""
    tpot_ms: Positive | None = None
    """Mean time per output token of such requests; null: `defaults.ls_tpot_ms`."""
    completion_ms: Positive | None = None
    """Time to the last token of its BE requests that state none; null: `defaults.be_completion_ms`."""


class TenantLimits(Section):
    """What a tenant may hold or use at once; beyond it a refusal with a retry delay. Null: no limit of its own."""

    max_in_flight: Count | None = None
    """Requests accepted and not ended, waiting ones included."""
    max_queued_requests: Count | None = None
    """Requests that wait; `scheduler.max_queued_per_tenant` holds beside it."""
    max_queued_tokens: Count | None = None
    """Prompt and expected output tokens of the requests that wait."""
    tokens_per_minute: Positive | None = None
    """Input and output tokens served in a minute, on average."""
    burst_tokens: Positive | None = None
    """Tokens that it may be ahead of that average; null: those of one minute."""


class Tenant(KeySource):
    """Who may ask, with which credentials, for what."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    """Lower-case letters, digits, - and _; it stands in metrics, logs and `fairlead status`."""
    credentials: Annotated[tuple[Credential, ...], Field(max_length=16)] = ()
    """More keys, each with the time in which it counts: for changing keys without a gap."""
    certificate_names: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(max_length=16)
    ] = ()
    """Names in client certificates that stand for this tenant, as the TLS settings read them."""
    weight: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    """Its share of the tokens served while others wait too, relative to their weights."""
    classes: Annotated[tuple[ClassName, ...], Field(min_length=1)] = ("ls", "be")
    """What this tenant may ask for; another class is served as its default one, and `accepted` says so."""
    default_class: ClassName = "be"
    """Class of requests that name none; one of `classes`."""
    slo: TenantSlo = TenantSlo()
    """Targets of its requests that state none."""
    limits: TenantLimits = TenantLimits()
    """What it may hold or use at once."""
    operator: bool = False
    """May use the admin service and give length hints."""
    disabled: bool = False
    """Every call of it is refused; what it had accepted before goes on to its end."""

    @model_validator(mode="after")
    def _has_credentials_and_its_default_class(self) -> Tenant:
        given = self.given_keys()
        if len(given) > 1 or not (given or self.credentials or self.certificate_names):
            raise ValueError(
                f"tenant {self.name!r}: give exactly one of {', '.join(KEY_FIELDS)}, or `credentials` for several "
                "keys, or `certificate_names`"
            )
        if self.default_class not in self.classes:
            raise ValueError(f"tenant {self.name!r}: default_class {self.default_class!r} is not among its classes")
        return self

    def all_credentials(self) -> tuple[Credential, ...]:
        """Every key of it, the one given beside its name first."""
        if not self.given_keys():
            return self.credentials
        return (Credential.model_validate({name: getattr(self, name) for name in KEY_FIELDS}), *self.credentials)

    def key_digest(self) -> bytes:
        """SHA-256 of its first key (32 bytes); raises ConfigError where `read_key` does."""
        return self._first().digest_of(self.name)

    def read_key(self) -> str:
        """Its first key, from wherever it is kept.

        Raises:
            ConfigError: it has none, only its hash is known, `key_env` names nothing, or `key_file` can't be read or is
                empty.
        """
        return self._first().key_of(self.name)

    def _first(self) -> KeySource:
        return next(iter(self.all_credentials()), self)
