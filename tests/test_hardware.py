import os
import pickle
from pathlib import Path

import pytest
import torch

from mammo_lightning import hardware
from mammo_lightning.errors import SettingsError
from mammo_lightning.hardware import Hardware, choose, cores


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Eight cores, no quota, no environment, no accelerator."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(hardware, "_quota", lambda: None)
    monkeypatch.setattr(hardware, "accelerators", lambda: {"cpu": 1})
    return monkeypatch


def test_cores_are_the_least_of_what_is_allowed(bare: pytest.MonkeyPatch) -> None:
    assert cores() == 8
    bare.setattr(hardware, "_quota", lambda: 2.5)
    assert cores() == 3
    bare.setenv("OMP_NUM_THREADS", "2,1")
    assert cores() == 2
    bare.setenv("OMP_NUM_THREADS", "many")
    assert cores() == 3
    bare.setattr(hardware, "_quota", lambda: 0.2)
    assert cores() == 1


def test_the_quota_of_any_group_on_the_way_counts(tmp_path: Path) -> None:
    own, groups = tmp_path / "own", tmp_path / "cgroup"
    (groups / "a" / "b").mkdir(parents=True)
    own.write_text("1:cpu:/x\n0::/a/b\n")
    assert hardware._quota(groups, own) is None
    (groups / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert hardware._quota(groups, own) is None
    (groups / "a" / "cpu.max").write_text("150000 100000\n")
    assert hardware._quota(groups, own) == 1.5
    (groups / "cpu").mkdir()
    (groups / "cpu" / "cpu.cfs_quota_us").write_text("50000")
    (groups / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert hardware._quota(groups, own) == 0.5
    assert hardware._quota(tmp_path / "none", tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("line", "native"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 vaes", True),
        ("flags\t\t: amx_tile amx_bf16", True),
        ("flags\t\t: avx512f avx512_bf16x", False),
        ("bugs\t\t: avx512_bf16", False),
    ],
)
def test_bfloat16_is_taken_where_the_processor_multiplies_it(
    bare: pytest.MonkeyPatch, tmp_path: Path, line: str, native: bool
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert hardware._multiplies_bfloat16(tmp_path / "cpuinfo") is native
    assert hardware._multiplies_bfloat16(tmp_path / "missing") is False
    bare.setattr(hardware, "_multiplies_bfloat16", lambda: native)
    assert choose() == Hardware("cpu", None, "bf16-mixed" if native else "32-true", True)
    assert choose(precision="bf16-mixed").precision == "bf16-mixed"


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((9, 0), ("bf16-mixed", True)), ((7, 5), ("16-mixed", True)), ((6, 1), ("32-true", False))],
)
def test_a_gpu_goes_first_with_what_it_is_good_at(
    bare: pytest.MonkeyPatch, capability: tuple[int, int], expected: tuple[str, bool]
) -> None:
    bare.setattr(hardware, "accelerators", lambda: {"cpu": 1, "gpu": 2})
    bare.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    found = choose(device=1)
    assert (found.precision, found.channels_last) == expected
    assert (found.address, found.devices) == ("cuda:1", [1])
    assert choose("cpu").devices == 1
    with pytest.raises(SettingsError, match="no device 2 among 2 of gpu; count from 0"):
        choose(device=2)


def test_what_is_not_possible_is_said_in_one_line(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="no accelerator 'tpu'; known: auto, cpu, gpu, mps"):
        choose("tpu")
    with pytest.raises(SettingsError, match="no precision 'bf16'; known: 16-mixed, 32-true, auto, bf16-mixed"):
        choose(precision="bf16")
    with pytest.raises(SettingsError, match="no gpu on this machine, there is cpu; pass --accelerator auto"):
        choose("gpu")
    with pytest.raises(SettingsError, match="'16-mixed' needs a GPU"):
        choose(precision="16-mixed")
    with pytest.raises(SettingsError, match="0 threads are not possible"):
        choose(threads=0)


def test_hardware_travels_to_another_process() -> None:
    one = Hardware("gpu", 1, "bf16-mixed", True, 4)
    assert pickle.loads(pickle.dumps(one)) == one
    assert "cpu" in hardware.accelerators()
