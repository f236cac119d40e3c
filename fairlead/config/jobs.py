"""Settings of durable jobs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fairlead.config.base import Count, Positive, Section


class JobsConfig(Section):
    """Durable jobs: what may be submitted, how much of it runs at once, how long it is kept."""

    max_lines: Annotated[int, Field(ge=1, le=10_000_000)] = 50_000
    """Lines of one job."""
    max_line_bytes: Annotated[int, Field(ge=1, le=2_000_000)] = 1_000_000
    """A longer line is refused, in bytes; `scheduler.max_prompt_bytes` holds as well."""
    max_job_mb: Positive = 64.0
    """The file of one job, MB."""
    max_jobs_per_tenant: Count = 1000
    """Jobs of one tenant that are kept, ended ones included; more are refused until some are deleted or their time is
    over."""
    max_tenant_mb: Positive = 1024.0
    """Files of all jobs of one tenant that are kept, MB."""
    max_journal_mb: Positive = 4096.0
    """A journal of this size, MB, takes no new jobs; what was accepted goes on."""
    min_free_mb: Annotated[float, Field(ge=0)] = 256.0
    """With less free space on the journal's disk, MB, no new jobs are taken, so that results have room; SQLite only."""
    lines_in_flight: Count = 512
    """Lines of all jobs that are in the scheduler's queue or on workers at once."""
    lines_in_flight_per_tenant: Count = 256
    """The same for one tenant."""
    jobs_at_once_per_tenant: Count = 8
    """Jobs of one tenant that have lines in flight at once, the oldest first; the others wait."""
    max_attempts: Count = 3
    """Times that a line is run before a lost worker or a failed engine is its outcome."""
    max_lifetime_days: Positive = 7.0
    """A job that lives longer ends EXPIRED, and so do its lines that have not ended."""
    keep_days: Positive = 7.0
    """An ended job and its results are deleted after this."""
