"""Which device runs the network, in which precision, with how many tiles at once."""

from __future__ import annotations

import torch

__all__ = ["available_devices", "default_batch_size", "is_out_of_memory", "resolve_device"]


def available_devices() -> tuple[str, ...]:
    """Names of the devices of this computer, the fastest kind first; always ends with "cpu"."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return (*names, "cpu")


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """Device that is there and is meant.

    Parameters
    ----------
    device : str or torch.device
        "auto" takes CUDA, then MPS, then the CPU. "cuda" means the first.

    Raises
    ------
    ValueError
        If the device is unknown or not there; it is never silently replaced by another.
    """
    found = available_devices()
    if str(device) == "auto":
        return torch.device(found[0])
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"Device {device!r} is unknown; choose auto or {_list(found)}.") from error
    name = f"cuda:{wanted.index or 0}" if wanted.type == "cuda" else wanted.type
    if name not in found:
        raise ValueError(f"Device {device} is not available here; choose auto or {_list(found)}.")
    return torch.device(name)


def default_batch_size(device: torch.device) -> int:
    """Tiles per forward pass: a CPU gains nothing beyond a few, and can be cancelled sooner."""
    return {"cpu": 4, "mps": 8}.get(device.type, 32)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a failed forward pass may succeed with fewer tiles."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's and MPS' allocators raise plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def _list(names: tuple[str, ...]) -> str:
    return " or ".join(names) if len(names) < 3 else ", ".join(names)
