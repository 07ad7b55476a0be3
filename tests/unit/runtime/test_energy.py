"""Energy counters, of a folder like that of Linux."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nmt.runtime.energy import Meter


def zone(folder: Path, name: str, kind: str, joules: float, wrap: float = 1000.0) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "name").write_text(f"{kind}\n")
    (path / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (path / "max_energy_range_uj").write_text(f"{int(wrap * 1e6)}\n")
    return path / "energy_uj"


def test_packages_and_memory_are_added_over_a_wrap(tmp_path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", "package-0", 10), zone(tmp_path, "intel-rapl:1", "package-1", 990)
    memory, core = zone(tmp_path, "intel-rapl:0:1", "dram", 5), zone(tmp_path, "intel-rapl:0:0", "core", 0)
    platform = zone(tmp_path, "intel-rapl:2", "psys", 0)  # holds the packages
    meter = Meter(folder=tmp_path)
    for path, joules in ((first, 30), (second, 15), (memory, 6), (core, 500), (platform, 500)):
        path.write_text(f"{int(joules * 1e6)}\n")
    assert meter.joules() == {"processor": 20 + 25 + 1}  # the second passed 1,000 and started again at 0
    second.write_text("16000000\n")
    assert meter.joules() == {"processor": 47}
    second.unlink()  # no longer readable: what was measured stays
    assert meter.joules() == {"processor": 47}
    meter.close()


def test_a_machine_that_tells_nothing(tmp_path) -> None:
    assert Meter(folder=tmp_path / "missing").joules() == {}
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0/name").write_text("package-0")
    assert Meter(folder=tmp_path).joules() == {}


@pytest.mark.parametrize("works", [True, False])
def test_gpu_by_nvml(tmp_path, monkeypatch, works) -> None:
    readings = iter([1000, 4500])

    def energy(handle: str) -> int:
        if not works:
            raise RuntimeError("Not Supported")
        assert handle == "GPU-x"
        return next(readings)

    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid="x"))
    meter = Meter(0, tmp_path)
    assert meter.joules() == ({"gpu": 3.5} if works else {})
    meter.close()
