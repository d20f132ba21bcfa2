"""Which engine a study runs on, and how this machine is divided between its workers."""

from __future__ import annotations

import math
from dataclasses import replace

import psutil

from mammo_lightning.engine.base import Engine
from mammo_lightning.engine.inline import Inline
from mammo_lightning.engine.processes import Processes
from mammo_lightning.errors import SettingsError
from mammo_lightning.hardware import Hardware, accelerators, cores

WORKER_BYTES = 1.5e9  # what a worker needs beside the images: libraries, and a small network's activations


def divide(base: Hardware, *, workers: int | None, devices: str | None, share: float, fits: int) -> list[Hardware]:
    """One entry a worker: cores are divided evenly, and a GPU is leased to one worker, or to as many as `share` says.

    Args:
        base: What a fit runs on.
        workers: How many, or None for as many as the machine takes.
        devices: Which GPUs, as Lightning writes it: a number of them ("2", "-1" for all) or a list ("0,3").
        share: The part of a GPU that one worker gets.
        fits: How many there are; more workers than that would stand idle.
    """
    if base.accelerator != "gpu":
        if devices not in (None, "auto", "1"):
            raise SettingsError(f"--devices {devices!r} is for GPUs; leave it out on {base.accelerator}")
        fitting = int(psutil.virtual_memory().available / WORKER_BYTES)
        most = cores() if base.accelerator == "cpu" else 1
        count = workers or max(1, min(most, fits, fitting))
        return [replace(base, threads=max(1, cores() // count))] * count
    leased = _leased(devices, accelerators()["gpu"])
    places = [device for _ in range(int(1 / share + 1e-6)) for device in leased]
    count = workers or max(1, min(len(places), fits))
    if count > len(places):
        fine = math.floor(1000 / math.ceil(count / len(leased))) / 1000
        raise SettingsError(
            f"{count} workers want a GPU and {len(leased)} are leased whole or by share {share:g}; "
            f"pass --gpu-share {fine:g}, or fewer workers"
        )
    return [replace(base, device=device, threads=max(1, cores() // count)) for device in places[:count]]


def _leased(devices: str | None, there: int) -> list[int]:
    try:
        if devices in (None, "auto", "-1"):
            return list(range(there))
        if devices and "," in devices:
            named = [int(part) for part in devices.strip(",").split(",")]
        else:
            named = list(range(int(devices or 0)))
    except ValueError:
        named = []
    if not named or len(set(named)) < len(named) or not all(0 <= device < there for device in named):
        raise SettingsError(f"--devices {devices!r} names no GPUs among {there}; pass a number, or a list such as 0,1")
    return named


def open_engine(name: str, hardware: list[Hardware], *, workers: int | None = None, share: float = 1.0) -> Engine:
    """The engine called `name`; one worker without a reason for a process of its own works in this one.

    Args:
        name: processes or ray.
        hardware: One entry a worker of this machine.
        workers: ray: how many, or None for as many as the cluster holds.
        share: ray: the part of a GPU that one worker gets.
    """
    if name == "ray":
        try:
            from mammo_lightning.engine.cluster import Cluster
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise SettingsError(
                "--engine ray needs a library that is not there; pip install 'mammo-lightning[ray]'"
            ) from None
        return Cluster(hardware[0], workers=workers, share=share)
    return Inline() if len(hardware) == 1 else Processes(hardware)
