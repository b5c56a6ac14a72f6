"""Weights on disk: safetensors files (https://github.com/huggingface/safetensors), written atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import MlplibError, one_line
from .files import replacing

AGAIN = "delete its folder and run again"
"""Advice for an unusable file: a run that has its record is not repeated to get its weights."""


def save(path: str | Path, state_dict: Mapping[str, Tensor], label: str | None = None) -> None:
    """Write a network's weights as a safetensors file; an existing file is replaced atomically.

    Args:
        state_dict: names and dense tensors on any device; views are stored as separate copies.
        label: stored with a hash of the tensors, for :func:`load` to compare.

    Raises:
        MlplibError: the message says what failed.
    """
    tensors = {name: _storable(name, value) for name, value in state_dict.items()}
    with replacing(path) as temporary:
        metadata = None if label is None else {"label": label, "sha256": digest(tensors)}
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:  # usually a full disk
            raise OSError(one_line(error)) from None


def load(path: str | Path, label: str | None = None, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file: names and CPU tensors that own their memory.

    Args:
        label: the label that the file was saved with; a file without one is not checked.
        sha256: the :func:`digest` of its tensors, by default the one in the file.

    Raises:
        MlplibError: the file is missing, truncated, not a safetensors file, or not the expected file.
    """
    path = Path(path)
    try:
        with safe_open(path, "pt") as file:
            found, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except FileNotFoundError:
        kept = "" if label is None else ", with this epoch in its keep_at"
        raise MlplibError(
            f"there are no weights {path}: do the run first{kept}; if it was done so, {AGAIN}"
        ) from None
    except OSError as error:
        raise MlplibError(f"cannot read the weights {path}: {error.strerror or error}; {AGAIN}") from None
    except Exception as error:  # safetensors' own error, or any error that a damaged header causes
        raise MlplibError(
            f"the weights {path} are truncated or not a safetensors file ({one_line(error)}): {AGAIN}"
        ) from None
    other = label is not None and metadata.get("label", label) != label
    sha256 = sha256 or metadata.get("sha256")
    if other or (sha256 is not None and sha256 != digest(found)):
        raise MlplibError(
            f"{path} is damaged or belongs to another run (its hash or name is another one): {AGAIN}"
        )
    return found


def digest(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names and values of all tensors, sorted by name: equal only if all bits are."""
    found = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _storable(name: str, value: Tensor) -> Tensor:
    """The value as a contiguous CPU tensor whose storage holds nothing else."""
    if value.layout is not torch.strided:
        raise MlplibError(f"{name} is sparse, which safetensors files cannot hold: make it dense")
    value = value.detach().cpu().contiguous()
    # safetensors would refuse a view of a larger storage as shared memory.
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
