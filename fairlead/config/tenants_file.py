"""The file of tenants beside the configuration (`scheduler.tenants_file`): read whole or refused whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from fairlead.config.base import ConfigError
from fairlead.config.tenants import Tenant

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 10
MAX_SHOWN = 5
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""A safe loader either way; the one in C reads ten thousand tenants in a fraction of the time."""
_TENANTS: TypeAdapter[tuple[Tenant, ...]] = TypeAdapter(tuple[Tenant, ...])


def load_tenants(path: Path) -> tuple[Tenant, ...]:
    """The tenants that a YAML file names, either as a list or below `tenants:`.

    Raises:
        ConfigError: it can't be read, is not YAML, or a value does not fit; the message names the file and each field,
            never a value, which may be a key.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: a tenants file has at most {MAX_BYTES // 1024**2} MB")
        document = _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; write the tenants there, or unset scheduler.tenants_file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {_place(error)}") from None
    listed = _listed(document, path)
    try:
        tenants = _TENANTS.validate_python(listed)
    except ValidationError as error:
        found = [f"tenants.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:MAX_SHOWN]]
        more = error.error_count() - len(found)
        raise ConfigError(f"{path}: {'; '.join(found)}{f'; and {more} more' if more > 0 else ''}") from None
    names = [tenant.name for tenant in tenants]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ConfigError(f"{path}: tenant {twice!r} is there twice")
    return tenants


def _parsed(text: str) -> Any:
    """The document. Its depth is looked at first: what builds it recurses, in C without a bound."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"nested more than {MAX_DEPTH} deep")
    return yaml.load(text, Loader=_Loader)


def _listed(document: Any, path: Path) -> Any:
    if isinstance(document, dict) and set(document) == {"tenants"}:
        document = document["tenants"]
    if not isinstance(document, list):
        raise ConfigError(f"{path}: must be a list of tenants, or `tenants:` with such a list; `[]` for none")
    return document


def _place(error: Exception) -> str:
    """Where YAML goes wrong, without the text that stands there."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"{problem}, line {mark.line + 1}" if mark is not None else str(problem)
