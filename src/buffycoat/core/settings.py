"""The base of every settings class: frozen, and an unknown key is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Settings(BaseModel):
    """Settings of one step (or of one stage); compared, hashed and written as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def _emptied(value: Any) -> Any:
    return {} if value is None else value


Emptied = BeforeValidator(_emptied)
"""For dictionaries: `null` empties one that another configuration file has filled (files are merged key by key)."""

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
