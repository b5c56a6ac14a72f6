"""Weights on disk: safetensors files (https://github.com/huggingface/safetensors), written atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .errors import MlplibError
from .files import replacing

RESERVED = "__metadata__"
"""The one name that the format keeps for itself."""


def save(path: str | Path, state_dict: Mapping[str, Tensor]) -> None:
    """Write tensors of any shape and device as a safetensors file; an existing file is replaced in one step.

    A reader sees the old file or the whole new one, never a part, also when this process is killed.

    Args:
        state_dict: names and tensors; non-contiguous tensors and views are stored as their own values.

    Raises:
        MlplibError: a value is not a dense tensor of a dtype that the format has, or writing failed.
    """
    tensors = {name: _storable(name, value) for name, value in state_dict.items()}
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:  # a full disk, mostly
            raise OSError(_line(error)) from None
        except (KeyError, ValueError) as error:
            raise MlplibError(f"weights of this dtype cannot be stored: {_line(error)}") from None


def load(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file: names and CPU tensors that own their memory.

    Raises:
        MlplibError: the file is missing, truncated or not a safetensors file.
    """
    path = Path(path)
    try:
        return load_file(path)
    except OSError as error:
        raise MlplibError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except Exception as error:  # the package's own error, or whatever a damaged header leads to
        raise MlplibError(
            f"the weights {path} are truncated or not a safetensors file ({_line(error)}): "
            "delete the file and make it again"
        ) from None


def digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names and values of all tensors, sorted by name: equal only if every bit is."""
    found = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _storable(name: str, value: Tensor) -> Tensor:
    """The value as a contiguous CPU tensor with a memory of its own size."""
    if not isinstance(name, str) or name == RESERVED:
        raise MlplibError(f"weights need names that are text other than {RESERVED}, not {name!r}")
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        what = f"{value.layout} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise MlplibError(f"weight {name!r} cannot be stored: it is {what}, not a dense tensor")
    value = value.detach().to("cpu").contiguous()
    if value.untyped_storage().nbytes() != value.nbytes:
        # A part of a larger memory: the safetensors package would refuse it as shared.
        value = value.clone()
    return value
