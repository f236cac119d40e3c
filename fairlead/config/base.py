"""What every section of the configuration is made from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ClassName = Literal["ls", "be"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(Exception):
    """A configuration that can't be used; the message names the field and the remedy."""


class Section(BaseModel):
    """Settings that belong together; an unknown name among them is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)
