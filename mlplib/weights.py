"""Weights on disk: safetensors files, written atomically, with or without the safetensors package.

The format is an 8-byte little-endian length, a JSON header ``{name: {dtype, shape, data_offsets}}``
of that length, then the raw tensors (https://github.com/huggingface/safetensors#format). A GPU machine
that has only torch and NumPy writes and reads the same files through the few functions at the end.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .errors import MlplibError
from .files import replacing

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""The format's dtype names and torch's, narrow ones first."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_RESERVED = "__metadata__"


def save(path: str | Path, state_dict: Mapping[str, Tensor]) -> None:
    """Write tensors of any shape and device as a safetensors file; an existing file is replaced in one step.

    A reader sees the old file or the whole new one, never a part, also when this process is killed.

    Args:
        state_dict: names and tensors; non-contiguous tensors and views are stored as their own values.

    Raises:
        MlplibError: a value is not a dense tensor of a dtype in :data:`DTYPES`, or writing failed.
    """
    tensors = {name: _storable(name, value) for name, value in state_dict.items()}
    with replacing(path) as temporary:
        try:
            from safetensors import SafetensorError
            from safetensors.torch import save_file
        except ImportError:
            _write(temporary, tensors)
            return
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            raise OSError(_line(error)) from None


def load(path: str | Path) -> dict[str, Tensor]:
    """Read a safetensors file: names and CPU tensors that own their memory.

    Raises:
        MlplibError: the file is missing, truncated or not a safetensors file.
    """
    path = Path(path)
    try:
        from safetensors.torch import load_file
    except ImportError:
        load_file = _read
    try:
        return load_file(path)
    except OSError as error:
        raise MlplibError(f"cannot read the weights {path}: {error.strerror or error}") from None
    except Exception as error:  # the package's own error, or whatever a damaged header leads to
        raise MlplibError(
            f"the weights {path} are truncated or not a safetensors file ({_line(error)}): "
            "delete the file and make it again"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _storable(name: str, value: Tensor) -> Tensor:
    """The value as a contiguous CPU tensor with a memory of its own size."""
    if not isinstance(name, str) or name == _RESERVED:
        raise MlplibError(f"weights need names that are text other than {_RESERVED}, not {name!r}")
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.dtype not in _NAMES:
        what = f"{value.layout} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise MlplibError(f"weight {name!r} cannot be stored: it is {what}, not a dense tensor")
    value = value.detach().to("cpu").contiguous()
    if value.untyped_storage().nbytes() != value.nbytes:
        # A part of a larger memory: the safetensors package would refuse it as shared.
        value = value.clone()
    return value


# ------------------------------------------------------------------- the format, without the package


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Wide dtypes come first, so that every tensor starts at a multiple of its element size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, end = {}, 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for _, tensor in ordered:
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def _read(path: Path) -> dict[str, Tensor]:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError("its header is cut off")
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is not a table of tensors")
        header.pop(_RESERVED, None)
        tensors, end = {}, 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = entry["data_offsets"]
            if start != end:
                raise ValueError(f"tensor {name!r} does not start where the one before it ends")
            if stop > size - 8 - length:
                raise ValueError("its tensors are cut off")
            tensors[name] = _read_tensor(file, entry, stop - start)
            end = stop
        if 8 + length + end != size:
            raise ValueError("it is longer than its header says")
    return tensors


def _read_tensor(file: BinaryIO, entry: dict, nbytes: int) -> Tensor:
    dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != nbytes:
        raise ValueError(f"shape {shape} does not fill {nbytes} bytes")
    memory = torch.empty(nbytes, dtype=torch.uint8)
    file.readinto(memory.numpy())
    return memory.view(dtype).reshape(shape)
