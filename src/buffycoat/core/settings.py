"""The base of every settings class: frozen, and an unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Settings(BaseModel):
    """Settings of one step (or of one stage); compared, hashed and written as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def _emptied(value: Any) -> Any:
    return {} if value is None else value


Emptied = BeforeValidator(_emptied)
"""For dictionaries: `null` empties one that another configuration file has filled (files are merged key by key)."""

Options = Annotated[dict[str, Any], Emptied]
"""Options that are passed on as they are."""
