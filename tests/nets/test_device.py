from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from buffycoat.nets import device
from buffycoat.nets.device import claim_gpu, mixed_precision, visible_gpus


def test_visible_gpus_honour_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-abc")
    assert visible_gpus() == ["3", "GPU-abc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_two_jobs_never_share_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What this process claims here is no GPU: later tests must not take it for one.
    monkeypatch.setattr(device, "_held_slots", [])
    code = (
        "import sys, time; from pathlib import Path; from buffycoat.nets.device import claim_gpu;"
        f"print(claim_gpu(['0', '1'], Path({str(tmp_path)!r})), flush=True); sys.stdin.read()"
    )
    jobs = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    names = [job.stdout.readline().strip() for job in jobs if job.stdout]
    assert sorted(names) == ["0", "1"]
    jobs[names.index("1")].communicate()
    # A GPU is free again when its job has ended, and the other one is not touched.
    assert claim_gpu(["0", "1"], tmp_path, wait_s=0.05) == "1"
    jobs[names.index("0")].communicate()


def test_the_cpu_stays_in_float32() -> None:
    with mixed_precision(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
