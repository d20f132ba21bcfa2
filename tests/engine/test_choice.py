"""How a machine is divided between workers, and which engine they make."""

import sys

import pytest

from mammo_lightning.engine import choice
from mammo_lightning.engine.choice import divide, open_engine
from mammo_lightning.engine.inline import Inline
from mammo_lightning.engine.processes import Processes
from mammo_lightning.errors import SettingsError
from mammo_lightning.hardware import Hardware

GPU = Hardware("gpu", 0, "bf16-mixed", True)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, two GPUs, and memory for six workers."""
    monkeypatch.setattr(choice, "cores", lambda: 8)
    monkeypatch.setattr(choice, "accelerators", lambda: {"cpu": 1, "gpu": 2})
    memory = type("Memory", (), {"available": 6.5 * choice.WORKER_BYTES})
    monkeypatch.setattr(choice.psutil, "virtual_memory", lambda: memory)


def split(base: Hardware = Hardware(), **how: object) -> list[tuple[int | None, int | None]]:  # noqa: B008
    asked = {"workers": None, "devices": None, "share": 1.0, "fits": 100, **how}
    return [(each.device, each.threads) for each in divide(base, **asked)]


@pytest.mark.parametrize(
    ("how", "workers", "threads"),
    [({}, 6, 1), ({"fits": 3}, 3, 2), ({"workers": 3}, 3, 2), ({"workers": 20}, 20, 1), ({"workers": 1}, 1, 8)],
)
def test_cores_are_divided_and_never_promised_twice(how: dict, workers: int, threads: int) -> None:
    assert split(**how) == [(None, threads)] * workers


@pytest.mark.parametrize(
    ("how", "devices"),
    [
        ({}, [0, 1]),
        ({"devices": "-1"}, [0, 1]),
        ({"devices": "1"}, [0]),
        ({"devices": "1,"}, [1]),
        ({"devices": "1,0"}, [1, 0]),
        ({"share": 0.5}, [0, 1, 0, 1]),
        ({"share": 0.5, "workers": 3}, [0, 1, 0]),
        ({"fits": 1}, [0]),
    ],
)
def test_gpus_are_leased(how: dict, devices: list[int]) -> None:
    leased = split(GPU, **how)
    assert [device for device, _ in leased] == devices
    assert {threads for _, threads in leased} == {8 // len(devices)}


@pytest.mark.parametrize("devices", ["0", "3", "0,0", "0,2", "-1,0", "all", ","])
def test_gpus_that_are_not_there(devices: str) -> None:
    with pytest.raises(SettingsError, match=f"--devices '{devices}' names no GPUs among 2; pass a number, or a list"):
        split(GPU, devices=devices)


@pytest.mark.parametrize("workers", [3, 4, 5, 6, 7, 14])
def test_more_workers_than_gpus_must_be_said(workers: int) -> None:
    with pytest.raises(SettingsError, match=rf"{workers} workers want a GPU and 2 are leased") as refused:
        split(GPU, workers=workers)
    cure = float(str(refused.value).partition("--gpu-share ")[2].partition(",")[0])
    assert len(split(GPU, workers=workers, share=cure)) == workers


def test_a_gpu_is_not_shared_beyond_what_it_is() -> None:
    assert [device for device, _ in split(GPU, share=0.6)] == [0, 1]
    with pytest.raises(SettingsError, match="--devices '0,1' is for GPUs; leave it out on cpu"):
        split(devices="0,1")


def test_one_worker_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_engine("processes", [Hardware()]), Inline)
    begun: list[Hardware] = []
    monkeypatch.setattr(Processes, "__init__", lambda self, hardware: begun.extend(hardware))
    assert isinstance(open_engine("processes", [GPU, GPU]), Processes)
    assert begun == [GPU, GPU]


def test_ray_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mammo_lightning.engine.cluster", raising=False)
    monkeypatch.delitem(sys.modules, "mammo_lightning.engine.joining", raising=False)
    monkeypatch.delitem(sys.modules, "mammo_lightning.engine.node", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"--engine ray needs a library .*; pip install 'mammo-lightning\[ray\]'"):
        open_engine("ray", [Hardware()])
