# SPDX-License-Identifier: GPL-3.0-or-later
"""Models and tensors on the device. torch is an argument, because only the timing process imports it."""

import contextlib
from typing import Any, Iterator

CLASSES = 1000
FAMILIES = ("mnasnet", "resnet", "densenet", "squeezenet", "vgg", "mobilenet", "shufflenetv2")
"""Modules of torchvision.models, in the order of the original's MODEL_LIST (3f47a9e)."""


@contextlib.contextmanager
def _made_on(torch: Any, device: str) -> Iterator[None]:
    """Creates tensors on the device: random weights take ms on a GPU, but seconds on a throttled CPU."""
    if device == "cpu":
        yield
    elif hasattr(torch, "set_default_device"):  # torch 2.0
        with torch.device(device):
            yield
    else:
        torch.set_default_tensor_type(torch.cuda.FloatTensor)
        try:
            yield
        finally:
            torch.set_default_tensor_type(torch.FloatTensor)


def build_model(torch: Any, torchvision: Any, name: str, precision: str, device: str) -> Any:
    """Randomly initialised model, NCHW, entirely in one precision, as in the original."""
    with _made_on(torch, device):
        model = getattr(torchvision.models, name)()
    return getattr(model.to(device), precision)()


def prepare_model(model: Any, *, trains: bool) -> None:
    """Resets gradients and batch statistics, so that no cell depends on an earlier one.

    Statistics of other cells would decide whether half precision overflows, which changes the GPU's power use.
    """
    model.train(trains)
    for parameter in model.parameters():
        parameter.grad = None
    for module in model.modules():
        if hasattr(module, "reset_running_stats"):
            module.reset_running_stats()


def random_images(torch: Any, batch: int, size: int, precision: str, device: str) -> Any:
    """A batch on the device, drawn in float, because old torch on a CPU cannot draw half."""
    return getattr(torch.randn(batch, 3, size, size, device=device), precision)()


def random_targets(torch: Any, batch: int, device: str) -> Any:
    return torch.randint(CLASSES, (batch,), device=device)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of GPU or host memory; torch before 1.13 has no separate exception for it."""
    text = str(error)
    return isinstance(error, MemoryError) or any(
        sign in text
        for sign in (
            "out of memory",
            "CUDNN_STATUS_ALLOC_FAILED",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "DefaultCPUAllocator",
        )
    )


def first_line(error: BaseException) -> str:
    """The message of an exception in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
