"""The base of every settings class: frozen, and an unknown key is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Settings(BaseModel):
    """Settings of one step (or of one stage); compared, hashed and written as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with what `above` names: dictionaries key by key, everything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _emptied(value: Any) -> Any:
    return {} if value is None else value


Emptied = BeforeValidator(_emptied)
"""For dictionaries: `null` empties one that another configuration file has filled (files are merged key by key)."""


def _text_of(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(
            f"{str(value).lower()}: YAML reads yes, no, on, off, true and false as truth values; put the word in quotes"
        )
    return str(value) if isinstance(value, (int, float)) else value


def _texts_of(value: Any) -> Any:
    """Return numbers in a value, a list, or the keys and values of a dictionary as texts."""
    if isinstance(value, Mapping):
        return {name: _text_of(held) for name, held in _keys_as_texts(value).items()}
    return [_text_of(item) for item in value] if isinstance(value, (list, tuple)) else _text_of(value)


def _keys_as_texts(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    found = {_text_of(name): held for name, held in value.items()}
    if len(found) < len(value):
        raise ValueError("a name stands there twice, as a number and as a text; keep one")
    return found


Texts = BeforeValidator(_texts_of)
"""For names of classes and the like: YAML's numbers become texts; its truth values are explained."""
TextKeys = BeforeValidator(_keys_as_texts)
"""For dictionaries by such names."""


Options = Annotated[dict[str, Any], Emptied]
"""Options that are passed on as they are."""


RUNTIME_VARIABLE = "BUFFYCOAT_RUNTIME"
"""The environment variable by which a run hands its `Runtime` to its steps, as JSON."""


class Runtime(Settings):
    """What depends on the machine and is no part of a result: a change runs nothing again and keeps checkpoints.

    Numbers may differ in their last digits, as they do between two machines. `bf16_on_cpu` rounds more coarsely: use it
    for a whole run or not at all.
    """

    micro_batch: int = Field(
        default=0,
        ge=0,
        description="Images per forward pass of train_fold; gradients add up to the batch. 0: the whole batch, halved"
        " by itself where the GPU's memory does not suffice.",
    )
    compile: Literal["auto", "never", "always"] = Field(
        default="auto", description="torch.compile: `auto` on GPUs only; on a CPU it costs minutes and gains nothing."
    )
    bf16_on_cpu: bool = Field(
        default=False,
        description="bfloat16 on CPUs too (GPUs that have it always use it): faster where the CPU has it.",
    )
    checkpoint_minutes: float = Field(
        default=5.0, gt=0, description="A training stores its state this often, at each epoch's end, and when stopped."
    )


class Statistics(Settings):
    """How sure the scores are."""

    resamples: int = Field(
        default=1000, ge=100, description="Bootstrap resamples of patients (of images, where no patients are known)."
    )
