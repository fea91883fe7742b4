"""Tensors in files: read without executing anything, write atomically, hash."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_dinocell.core.errors import ModelFileError

State = dict[str, Tensor]


class SkipInitialization(TorchFunctionMode):
    """Context in which modules are built without drawing initial weights, to be replaced at once.

    The device `meta` does the same, but its first use imports a second's worth of torch's modules.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch, unless it draws in place: then return its tensor."""
        kwargs = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


# Some functions of `torch.nn.init` announce themselves to a mode, of others only these are seen.
_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


def read_tensors(path: str | Path) -> State:
    """All tensors of a weight file, without executing anything in it.

    Parameters
    ----------
    path : path
        `.safetensors`, or `.pth`, `.pt`, `.bin` of PyTorch. A training checkpoint gives what it
        keeps under `teacher`, `model` or `state_dict`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is damaged, of another format, or holds more than tensors.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    _refuse_absent(path)
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise ModelFileError(
            f"{path.name} has the ending {path.suffix!r}; "
            "expected .safetensors, or .pth, .pt, .bin of PyTorch."
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ModelFileError(
            f"{path.name} is damaged or holds more than tensors, which may run code; "
            "convert it to safetensors."
        ) from error
    for key in ("teacher", "model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = content.items() if isinstance(content, dict) else ()
    tensors = {str(key): value for key, value in named if isinstance(value, Tensor)}
    if not tensors:
        raise ModelFileError(f"{path.name} holds no tensors by name; give a file of weights.")
    return tensors


def read_safetensors(path: str | Path) -> tuple[State, dict[str, str]]:
    """Tensors and header texts of a safetensors file; errors as in `read_tensors`."""
    path = Path(path)
    _refuse_absent(path)
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def read_header(path: str | Path) -> dict[str, str]:
    """Header texts of a safetensors file, without its tensors; errors as in `read_tensors`."""
    path = Path(path)
    _refuse_absent(path)
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> None:
    """Write a safetensors file; what stood there is replaced only by the whole new file."""
    path = Path(path)
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    content = save(whole, metadata=dict(header))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private, a shared model folder needs it readable
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, shapes and float32 values in order of names; 64 hexadecimal digits.

    The same for float16 weights in a file and for the float32 weights that were read from it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(to_float32(tensors).items()):
        digest.update(f"{name}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_float32(state: Mapping[str, Tensor]) -> State:
    """Floating-point tensors as float32 on the CPU; counters as they are."""
    return {key: _float32(value.detach().cpu()) for key, value in state.items()}


def _float32(tensor: Tensor) -> Tensor:
    if tensor.dtype == torch.float16:
        # numpy, because torch starts its threads once per tensor: 0.4 s instead of 0.05 s for
        # the 174 tensors of a ViT-S when another process holds a core.
        return torch.from_numpy(tensor.numpy().astype(np.float32))
    return tensor.float() if tensor.is_floating_point() else tensor


def halve_matrices(state: Mapping[str, Tensor]) -> State:
    """float16 for kernels and matrices; vectors (biases, variances) keep precision and range."""
    return {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value
        for key, value in state.items()
    }


def _refuse_absent(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; check the path.")


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{path.name} is not a whole safetensors file ({error}); download or export it again."
    )
