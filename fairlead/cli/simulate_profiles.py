"""Machine profiles on the command line of `fairlead simulate`."""

from __future__ import annotations

from rich import box
from rich.table import Table

from fairlead.cli.problems import EXIT_USAGE, fail, wide_console
from simulator.profiles import PROFILES, Profile, ProfileError, find_profile


def chosen(text: str) -> Profile:
    """The profile of this name or file; ends the command where there is none."""
    try:
        return find_profile(text)
    except ProfileError as error:
        fail(f"--profile: {error}", EXIT_USAGE)


def steps_of(profile: Profile) -> tuple[float, float, float, float]:
    """Its step times as `--step-ms` has them."""
    model = profile.step_model
    return (
        model.c0_ms,
        model.c1_ms_per_prefill_token,
        model.c2_ms_per_decode,
        model.c3_ms_per_context_token,
    )


def print_profiles() -> None:
    """A line a profile, and where its figures are from."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("profile", "what", "seats", "KV tokens", "--step-ms", "source"):
        table.add_column(name, justify="right" if name in ("seats", "KV tokens") else "left")
    for profile in PROFILES.values():
        steps = ",".join(f"{value:g}" for value in steps_of(profile))
        table.add_row(
            profile.name, profile.summary, str(profile.seats), f"{profile.kv_tokens:,}", steps, profile.source
        )
    wide_console().print(table)
