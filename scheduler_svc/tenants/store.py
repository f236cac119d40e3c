"""What operators changed, on disk: one checksummed JSON file, replaced as a whole; hashes of keys, never keys.

A file that can't be read stops the start: without it tenants that were disabled would be let in again, and keys that
were replaced would count again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fairlead.config import ConfigError
from scheduler_svc.durable import replace_file

FILE_NAME = "tenants.json"
VERSION = 1


class StoredKey(BaseModel):
    """A key that an operator made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    retired_after: datetime | None = None


class Record(BaseModel):
    """What operators made of one tenant.

    Attributes:
        made: the tenant is theirs; else these are changes to one of the configuration or the tenants file.
        settings: fields of `Tenant` that they set, as JSON values.
        keys: that they added.
        retired: when keys of configuration or file end, by key id.
        updated: last change.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    made: bool
    settings: dict[str, Any] = {}
    keys: tuple[StoredKey, ...] = ()
    retired: dict[str, datetime] = {}
    updated: datetime


Records = dict[str, Record]
"""By tenant."""


class _File(BaseModel):
    """The file: `sha256` is of `records` as it stands there."""

    model_config = ConfigDict(extra="forbid")

    fairlead_tenants: Literal[1]
    sha256: str
    records: list[Any]


_RECORDS: TypeAdapter[list[Record]] = TypeAdapter(list[Record])


class TenantStore:
    """The file in the state folder.

    Args:
        state_dir: exists, or is made.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE_NAME

    def read(self) -> Records:
        """What was kept; empty where nothing ever was.

        Raises:
            ConfigError: the file is damaged, of another version or can't be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(str(error)) from None
        try:
            value = json.loads(text)
            if isinstance(value, dict) and value.get("fairlead_tenants") not in (None, VERSION):
                raise self._unusable(f"version {value['fairlead_tenants']}; this release knows {VERSION}")
            file = _File.model_validate(value)
            if _digest(file.records) != file.sha256:
                raise self._unusable("its checksum does not fit")
            return {record.name: record for record in _RECORDS.validate_python(file.records)}
        except ValidationError as error:
            raise self._unusable(f"{error.errors()[0]['msg']} at {error.errors()[0]['loc']}") from None
        except (ValueError, RecursionError):
            raise self._unusable("it is not the JSON that was written") from None

    def write(self, records: Records) -> None:
        """Keeps these instead of what was kept; blocks until they are on disk. Raises OSError."""
        listed = _RECORDS.dump_python([records[name] for name in sorted(records)], mode="json", exclude_defaults=True)
        value = {"fairlead_tenants": VERSION, "sha256": _digest(listed), "records": listed}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, json.dumps(value, indent=1).encode())

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            f"scheduler.state_dir: {self.path} can't be used ({why}); put back a copy of it, or move it away: then "
            "tenants that operators made are unknown, and what they disabled or replaced counts again"
        )


def _digest(records: list[Any]) -> str:
    return hashlib.sha256(json.dumps(records, sort_keys=True).encode()).hexdigest()
