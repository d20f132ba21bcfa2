"""The machine: versions, disk, GPU."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from mammo_lightning.health.finding import Finding, bad, ok, size, warn

PACKAGE = "mammo-lightning"
SPARE = 5 * 10**9  # a study writes gigabytes before it notices
LEAST = 5 * 10**8
SHOWN = ("torch", "torchvision", "mlflow", "optuna", "pytorch-lightning")
NETWORKS = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "panfs"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.juicefs"),
}


def versions() -> Iterator[Finding]:
    """Python and every library against the bounds of the package."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    what = "versions"
    python, bounds = platform.python_version(), metadata(PACKAGE)["Requires-Python"] or ""
    wrong = [] if SpecifierSet(bounds).contains(python) else [f"python {python} is not {bounds}"]
    for text in requires(PACKAGE) or []:
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            wrong += _unmet(need.name, str(need.specifier))
    for text in requires("torchvision") or []:
        need = Requirement(text)
        if need.name == "torch":  # a pair is built for each other, and fails at import otherwise
            wrong += [f"torchvision {version('torchvision')} needs another torch: {each}" for each in _unmet(
                "torch", str(need.specifier)
            )]  # fmt: skip
    torch, vision = (version(name).partition("+")[2] for name in ("torch", "torchvision"))
    if torch != vision:
        wrong.append(f"torch is a {torch or 'default'} build, torchvision a {vision or 'default'} one")
    if wrong:
        yield bad(what, "; ".join(wrong), "Run `make` again, or install requirements.lock")
    else:
        shown = ", ".join(f"{name} {version(name)}" for name in SHOWN)
        yield ok(what, f"python {python}, {shown}")


def _unmet(name: str, bounds: str) -> list[str]:
    from packaging.specifiers import SpecifierSet

    try:
        found = version(name)
    except PackageNotFoundError:
        return [f"{name} is not installed"]
    return [] if SpecifierSet(bounds).contains(found, prereleases=True) else [f"{name} {found} is not {bounds}"]


def disk(mlruns: Path) -> Iterator[Finding]:
    """Whether the tracking folder can be written to, and how much room there is."""
    place = next(path for path in (mlruns, *mlruns.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=place) as probe:
            probe.write(b"0" * 4096)
            probe.flush()
    except OSError as error:
        cure = "Free some space" if error.errno == 28 else "Mend its permissions, or pass --mlruns DIR"
        yield bad("mlruns", f"'{place}' cannot be written to ({error.strerror})", cure)
    else:
        yield ok("mlruns", f"'{mlruns}' can be written to" if place == mlruns else f"'{mlruns}' is not there yet")
    free = shutil.disk_usage(place).free
    text, cure = f"{size(free)} free at '{place}'", "Free some, for instance with `python -m experiments.gc`"
    if free < LEAST:
        yield bad("disk", text, cure)
    else:
        yield ok("disk", text) if free >= SPARE else warn("disk", text, cure)


def network(path: Path) -> str:
    """The kind of network file system a path is on; empty for a local one."""
    import psutil

    place = path.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if place.is_relative_to(part.mountpoint)]
    kind = max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""
    return kind if kind in NETWORKS else ""


def gpu() -> Iterator[Finding]:
    """Whether there is a GPU, torch can compute on it, and memory is free."""
    import torch

    driver = _driver()
    if not torch.cuda.is_available():
        if driver:
            built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
            yield bad("gpu", f"{driver}, but torch {torch.__version__} ({built}) cannot use it", "Update the driver")
        elif torch.backends.mps.is_available():
            yield ok("gpu", "Apple's")
        else:
            yield ok("gpu", "none; fits run on the CPU")
        return
    for number in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(number)
        try:
            probe = torch.ones(8, 8, device=f"cuda:{number}")
            works = float((probe @ probe).sum()) == 512.0
            free, whole = torch.cuda.mem_get_info(number)
        except RuntimeError as error:  # a card too old or too new for this build, or one that is full
            yield bad("gpu", f"{number} ({name}) does not compute: {str(error).splitlines()[0]}", "See `nvidia-smi`")
            continue
        text = f"{number}: {name}, {size(free)} of {size(whole)} free{'' if works else ', computes wrongly'}"
        if not works:
            yield bad("gpu", text, "Do not trust this card")
        elif free < whole / 4:
            yield warn("gpu", text, "Another process holds it, see `nvidia-smi`")
        else:
            yield ok("gpu", text)


def _driver() -> str:
    if not (program := shutil.which("nvidia-smi")):
        return ""
    command = [program, "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    first = next(iter(done.stdout.splitlines()), "")
    return f"driver {first}" if first else ""
