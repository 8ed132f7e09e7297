"""What a figure was measured on."""

from __future__ import annotations

import platform
from typing import Any

from buffycoat.core.environment import hardware


def machine() -> dict[str, Any]:
    """Return the processor, cores, memory and GPU of this machine."""
    import torch

    found = hardware()
    return {
        **{name: found[name] for name in ("processor", "cores", "memory_gib")},
        "gpu": found["gpus"][0] if found["gpus"] else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
