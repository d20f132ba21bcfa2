"""What a fit runs on: the accelerator, the precision and the threads, chosen for this machine or as asked."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path

from mammo_lightning.errors import SettingsError, one_of

ACCELERATORS = ("cpu", "gpu", "mps")
#: Lightning's words; weights are float32 in all of them
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_FLAGS = ("avx512_bf16", "amx_bf16")  # of a processor that multiplies bfloat16 natively
_AMPERE, _VOLTA = (8, 0), (7, 0)


@dataclass(frozen=True)
class Hardware:
    """What one fit uses."""

    accelerator: str = "cpu"
    device: int | None = None  # which GPU
    precision: str = "32-true"
    channels_last: bool = False
    threads: int | None = None  # as the process has it where None

    @property
    def address(self) -> str:
        """The device as torch calls it."""
        return f"cuda:{self.device or 0}" if self.accelerator == "gpu" else self.accelerator

    @property
    def devices(self) -> list[int] | int:
        """The devices as Lightning's Trainer takes them: always one; more would start the command again."""
        return [self.device or 0] if self.accelerator == "gpu" else 1


def cores() -> int:
    """Cores this process may use: of its affinity, the quota of its container, and OMP_NUM_THREADS the least."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    limits = [len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1]
    if (quota := _quota()) is not None:
        limits.append(math.ceil(quota))
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isdecimal():
        limits.append(int(first))
    return max(1, min(limits))


def _quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """The least quota of cores on the way from this process's control group to the root; None without one."""
    found: list[float] = []
    with contextlib.suppress(OSError, ValueError):
        name = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), "/")
        inside = groups / name.strip("/")
        for folder in (inside, *inside.parents):
            if not folder.is_relative_to(groups):
                break
            with contextlib.suppress(OSError):
                quota, period = (folder / "cpu.max").read_text().split()
                if quota != "max":
                    found.append(int(quota) / int(period))
    with contextlib.suppress(OSError, ValueError):  # the first version of control groups
        quota_us = int((groups / "cpu" / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            found.append(quota_us / int((groups / "cpu" / "cpu.cfs_period_us").read_text()))
    return min(found, default=None)


def accelerators() -> dict[str, int]:
    """What is there, and how many of it; a CPU always is."""
    import torch

    found = {"cpu": 1}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.device_count()
    if torch.backends.mps.is_available():
        found["mps"] = 1
    return found


def choose(
    accelerator: str = "auto", precision: str = "auto", *, device: int | None = None, threads: int | None = None
) -> Hardware:
    """Decide what is not said.

    A GPU goes before a CPU. Mixed bfloat16 is taken where the chip multiplies it natively, never where it is emulated
    (slower than float32); float16 on older GPUs with tensor cores; else float32. Channels-last is taken on a CPU, where
    one thread was 1.4 times as fast with it in float32 and 1.6 times in bfloat16, and on a GPU with either half
    precision.

    Args:
        accelerator: auto, cpu, gpu or mps.
        precision: auto, or one of `PRECISIONS`, which is then taken even where it is slow.
        device: which GPU; the first where None.
        threads: of a fit on the CPU; as the process has it where None.
    """
    there = accelerators()
    if accelerator not in ("auto", *ACCELERATORS):
        raise SettingsError(f"no accelerator {accelerator!r}; {one_of(('auto', *ACCELERATORS))}")
    if precision not in ("auto", *PRECISIONS):
        raise SettingsError(f"no precision {precision!r}; {one_of(('auto', *PRECISIONS))}")
    chosen = accelerator if accelerator != "auto" else next((name for name in ("gpu", "mps") if name in there), "cpu")
    if chosen not in there:
        raise SettingsError(f"no {chosen} on this machine, there is {', '.join(there)}; pass --accelerator auto")
    if device is not None and not 0 <= device < there[chosen]:
        raise SettingsError(f"no device {device} among {there[chosen]} of {chosen}; count from 0")
    if threads is not None and threads < 1:
        raise SettingsError(f"{threads} threads are not possible; pass 1 or more")
    if precision == "16-mixed" and chosen == "cpu":
        raise SettingsError("precision '16-mixed' needs a GPU; pass bf16-mixed or 32-true")
    if precision == "auto":
        precision = _precision(chosen, device or 0)
    last = chosen == "cpu" or (chosen == "gpu" and precision != "32-true")
    return Hardware(chosen, (device or 0) if chosen == "gpu" else None, precision, last, threads)


def _precision(accelerator: str, device: int) -> str:
    if accelerator == "gpu":
        import torch

        capability = torch.cuda.get_device_capability(device)
        return "bf16-mixed" if capability >= _AMPERE else "16-mixed" if capability >= _VOLTA else "32-true"
    return "bf16-mixed" if accelerator == "cpu" and _multiplies_bfloat16() else "32-true"


def _multiplies_bfloat16(flags: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor says so; one that cannot be asked is taken not to."""
    try:
        text = flags.read_text()
    except OSError:  # no Linux
        return False
    words = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    return any(flag in words for flag in _FLAGS)
