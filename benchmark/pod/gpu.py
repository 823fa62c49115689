# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPU that is device 0 for torch, as driver and NVML report it. A missing value is None; nothing raises."""

import ctypes
import subprocess
from typing import Any, Dict, NamedTuple, Optional, Union

from .cgroup import read_text

GpuSample = Dict[str, Union[int, float, None]]

_TEXT_BYTES = 96
_SM_CLOCK, _GPU_TEMPERATURE = 1, 0  # NVML_CLOCK_SM, NVML_TEMPERATURE_GPU


def name_of(environment: Dict[str, Any]) -> Optional[str]:
    """How people find the GPU of a process again: its model, UUID and PCI address. None if it computed on the CPU.

    `environment` is that of the process, as its first line has it (`environment.of_torch`).
    """
    model = environment.get("gpu")
    if not model:
        return None
    uuid, pci = environment.get("gpu_uuid"), environment.get("gpu_pci")
    details = ", ".join(filter(None, (uuid, f"PCI address {pci}" if pci else None)))
    return f"{model} ({details})" if details else str(model)


class GpuIdentity(NamedTuple):
    """`pci` is in the notation of sysfs, 0000:1b:00.0; `numa_node` is -1 if the firmware does not report it."""

    pci: Optional[str] = None
    uuid: Optional[str] = None
    driver: Optional[str] = None
    numa_node: Optional[int] = None


def pci_of_first_device() -> Optional[str]:
    """PCI address of CUDA's device 0, which depends on CUDA_VISIBLE_DEVICES as in torch; None without the driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetPCIBusId(text, _TEXT_BYTES, 0) != 0:
        return None
    return text.value.decode().lower()


class Nvml:
    """NVML through its C library. Raises OSError if the library or the device is missing."""

    def __init__(self, pci: str) -> None:
        self._library = ctypes.CDLL("libnvidia-ml.so.1")
        self._device = ctypes.c_void_p()
        if self._library.nvmlInit_v2() != 0:
            raise OSError("NVML cannot be initialised")
        if self._library.nvmlDeviceGetHandleByPciBusId_v2(pci.encode(), ctypes.byref(self._device)) != 0:
            raise OSError(f"NVML does not know the device {pci}")

    def _text(self, function: str, *arguments: object) -> Optional[str]:
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        failed = getattr(self._library, function)(*arguments, buffer, _TEXT_BYTES)
        return None if failed else buffer.value.decode()

    def _number(self, function: str, *arguments: int) -> Optional[int]:
        # 64 bits also fit the 32-bit answers, as NVML exists for little-endian machines only.
        value = ctypes.c_ulonglong(0)
        failed = getattr(self._library, function)(self._device, *arguments, ctypes.byref(value))
        return None if failed else value.value

    def uuid(self) -> Optional[str]:
        return self._text("nvmlDeviceGetUUID", self._device)

    def driver(self) -> Optional[str]:
        return self._text("nvmlSystemGetDriverVersion")

    def sample(self) -> GpuSample:
        """Clock of the multiprocessors, temperature, power, and the bit mask of what limits the clocks."""
        milliwatt = self._number("nvmlDeviceGetPowerUsage")
        return {
            "gpu_sm_mhz": self._number("nvmlDeviceGetClockInfo", _SM_CLOCK),
            "gpu_temperature": self._number("nvmlDeviceGetTemperature", _GPU_TEMPERATURE),
            "gpu_power_w": None if milliwatt is None else milliwatt / 1e3,
            "gpu_throttle_reasons": self._number("nvmlDeviceGetCurrentClocksThrottleReasons"),
        }


def _ask_nvidia_smi(pci: str) -> GpuIdentity:
    command = ["nvidia-smi", "-i", pci, "--query-gpu=uuid,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=20).decode()
    except (OSError, subprocess.SubprocessError):
        return GpuIdentity(pci)
    uuid, _comma, driver = answer.strip().partition(", ")
    return GpuIdentity(pci, uuid or None, driver or None)


class Gpu:
    """Identity once per process, samples once per block, through NVML only, because nvidia-smi is slow to start."""

    def __init__(self) -> None:
        self._nvml: Optional[Nvml] = None
        pci = pci_of_first_device()
        if pci is None:
            self.identity = GpuIdentity()
            return
        try:
            self._nvml = Nvml(pci)
            self.identity = GpuIdentity(pci, self._nvml.uuid(), self._nvml.driver())
        except (OSError, AttributeError):  # AttributeError: a library older than the function
            self._nvml = None
            self.identity = _ask_nvidia_smi(pci)
        node = read_text(f"/sys/bus/pci/devices/{pci}/numa_node")
        self.identity = self.identity._replace(numa_node=int(node) if node else None)

    def sample(self) -> GpuSample:
        if self._nvml is None:
            return {}
        try:
            return self._nvml.sample()
        except AttributeError:
            return {}
