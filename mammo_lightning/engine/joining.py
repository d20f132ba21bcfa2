"""Joining a Ray cluster as a quiet guest: found, asked what its nodes have, and left as it was."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import ray
from ray._private import services, worker
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import mammo_lightning
from mammo_lightning.errors import TrackingError

#: what a worker imports, this package first
NEEDED = ("mammo_lightning", "torch", "pytorch_lightning", "albumentations", "sklearn", "safetensors")
KNOCK_SECONDS = 5.0


def join() -> bool:
    """Connect to the cluster; False if this process has done so before."""
    if ray.is_initialized():
        return False
    _connect({})
    try:
        missing = _missing()
        if missing == [NEEDED[0]]:  # the libraries are there: this package is sent along
            leave()
            _connect({"py_modules": [str(Path(mammo_lightning.__file__).parent)]})
            missing = _missing()
        if missing:
            raise TrackingError(
                f"nodes of the Ray cluster lack {', '.join(missing)}; install mammo-lightning on every node"
            )
    except BaseException:
        leave()
        raise
    return True


def leave() -> None:
    """Disconnect; the cluster stays."""
    ray.shutdown()


def places(share: float) -> int:
    """How many actors of one CPU and a share of a GPU the living nodes hold."""
    return sum(_places(node["Resources"], share) for node in ray.nodes() if node["Alive"])


def _places(resources: dict[str, float], share: float) -> int:
    processors = int(resources.get("CPU", 0))
    if not share:
        return processors
    return min(processors, int(resources.get("GPU", 0)) * int(1 / share + 1e-6))


def _connect(environment: dict[str, Any]) -> None:
    address = os.environ.get("RAY_ADDRESS") or "auto"
    handler = signal.getsignal(signal.SIGTERM)
    worker.print_to_stdstream = _note
    try:
        _knock(address)
        ray.init(address=address, runtime_env=environment, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        first = next(iter(str(error).splitlines()), "").strip(" .") or type(error).__name__
        raise TrackingError(
            f"no Ray cluster at {address!r} ({first}); start one with `ray start --head`, set RAY_ADDRESS, "
            "or drop --engine ray"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler or signal.SIG_DFL)  # Ray's ends the process at once


def _knock(address: str) -> None:
    """Find out soon whether anybody is there: Ray tries a wrong address for a quarter of an hour."""
    found = None if "://" in address else services.canonicalize_bootstrap_address(address)
    if found:
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _note(data: dict[str, Any], *rest: Any, **more: Any) -> None:
    """What nodes report, a page for each that dies: Ray would print it into the middle of the display."""
    logging.getLogger(__name__).info("%s", "\n".join(data["lines"]))


def _missing() -> list[str]:
    """What cannot be imported on some node."""

    def look(names: tuple[str, ...]) -> list[str]:  # inside a function, so that Ray sends it whole
        from importlib.util import find_spec

        return [name for name in names if find_spec(name) is None]

    asked = []
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=True)
            asked.append(ray.remote(look).options(num_cpus=0, scheduling_strategy=there).remote(NEEDED))
    found = {name for names in ray.get(asked, timeout=120) for name in names}
    return [name for name in NEEDED if name in found]
