# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPU as driver and NVML tell it, through stand-ins for their C libraries."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from benchmark.pod import gpu

ANSWERS = {
    "nvmlDeviceGetPowerUsage": 351250,
    "nvmlDeviceGetClockInfo": 1980,
    "nvmlDeviceGetTemperature": 61,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4,
}
TEXTS = {"nvmlDeviceGetUUID": b"GPU-1", "nvmlSystemGetDriverVersion": b"550.54.15"}


def _cuda() -> Any:
    def bus_id(buffer: Any, _length: int, _device: int) -> int:
        buffer.value = b"0000:1B:00.0"
        return 0

    return SimpleNamespace(cuInit=lambda _flags: 0, cuDeviceGetPCIBusId=bus_id)


def _nvml(failing: tuple[str, ...] = ()) -> Any:
    def number(name: str) -> Callable[..., int]:
        def answer(*arguments: Any) -> int:
            arguments[-1]._obj.value = ANSWERS[name]
            return 3 if name in failing else 0

        return answer

    def text(name: str) -> Callable[..., int]:
        def answer(*arguments: Any) -> int:
            arguments[-2].value = TEXTS[name]
            return 0

        return answer

    def handle(pci: bytes, _device: Any) -> int:
        return 0 if pci == b"0000:1b:00.0" else 6

    return SimpleNamespace(
        nvmlInit_v2=lambda: 0,
        nvmlDeviceGetHandleByPciBusId_v2=handle,
        **{name: number(name) for name in ANSWERS},
        **{name: text(name) for name in TEXTS},
    )


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Libraries by name; one that is not in it cannot be loaded."""
    there: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in there:
            raise OSError(f"{name}: cannot open shared object file")
        return there[name]

    monkeypatch.setattr("ctypes.CDLL", load)
    return there


def test_the_device_is_found_by_its_pci_address(libraries: dict[str, Any]) -> None:
    libraries.update({"libcuda.so.1": _cuda(), "libnvidia-ml.so.1": _nvml()})
    device = gpu.Gpu()
    assert device.identity[:3] == ("0000:1b:00.0", "GPU-1", "550.54.15")
    assert device.sample() == {
        "gpu_sm_mhz": 1980,
        "gpu_temperature": 61,
        "gpu_power_w": 351.25,
        "gpu_throttle_reasons": 4,
    }


def test_what_the_device_does_not_support_is_none(libraries: dict[str, Any]) -> None:
    libraries.update({"libcuda.so.1": _cuda(), "libnvidia-ml.so.1": _nvml(("nvmlDeviceGetPowerUsage",))})
    sample = gpu.Gpu().sample()
    assert sample["gpu_power_w"] is None
    assert sample["gpu_sm_mhz"] == 1980


def test_nvidia_smi_stands_in_for_a_missing_nvml(libraries: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    libraries["libcuda.so.1"] = _cuda()
    monkeypatch.setattr("subprocess.check_output", lambda *_, **__: b"GPU-2, 470.82.01\n")
    device = gpu.Gpu()
    assert device.identity[:3] == ("0000:1b:00.0", "GPU-2", "470.82.01")
    assert device.sample() == {}


def test_without_a_driver_nothing_is_known(libraries: dict[str, Any]) -> None:
    device = gpu.Gpu()
    assert device.identity == (None, None, None, None)
    assert device.sample() == {}


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"gpu": "H100", "gpu_uuid": "GPU-1", "gpu_pci": "0000:1b:00.0"}, "H100 (GPU-1, PCI address 0000:1b:00.0)"),
        ({"gpu": "H100", "gpu_uuid": None, "gpu_pci": "0000:1b:00.0"}, "H100 (PCI address 0000:1b:00.0)"),
        ({"gpu": "H100"}, "H100"),
        ({"gpu": None, "gpu_uuid": None, "gpu_pci": None}, None),
    ],
)
def test_a_gpu_is_named_so_that_people_find_it(environment: dict[str, str | None], name: str | None) -> None:
    assert gpu.name_of(environment) == name
