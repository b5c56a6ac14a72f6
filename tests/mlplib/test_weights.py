"""Weights on disk: what is loaded is what was saved, or one line says what is wrong."""

import os
import struct
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mlplib import weights
from mlplib.errors import MlplibError
from mlplib.files import replacing

DTYPES = (
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.float8_e4m3fn),
)


@st.composite
def tensors(draw):
    """Any stored dtype, 0 to 3 dimensions with sizes from 0, arbitrary bits (NaNs and subnormals too)."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    numel = int(torch.tensor(shape).prod()) if shape else 1
    size = numel * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if dtype == torch.bool:
        raw = bytes(b & 1 for b in raw)
    data = torch.tensor(list(raw), dtype=torch.uint8)
    return data.view(dtype).reshape(shape)


names = st.text(max_size=8).filter(lambda name: name != "__metadata__")
state_dicts = st.dictionaries(names, tensors(), max_size=4)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def same(left, right):
    """Equal names, dtypes, shapes and bits (NaN is equal to the same NaN)."""
    return left.keys() == right.keys() and all(
        left[n].dtype == right[n].dtype
        and left[n].shape == right[n].shape
        and torch.equal(bits(left[n]), bits(right[n]))
        for n in left
    )


@settings(max_examples=100, deadline=None)
@given(state=state_dicts)
def test_what_is_loaded_is_what_was_saved(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    weights.save(path, state)
    assert same(weights.load(path), state)
    assert weights.digest(weights.load(path)) == weights.digest(state)


def test_the_digest_tells_names_and_values_apart():
    one = {"a": torch.zeros(2)}
    more = {"a": torch.zeros(2), "b": torch.zeros(0)}
    counters = ({"a": torch.tensor(1)}, {"a": torch.tensor(2)})
    states = (one, {"b": torch.zeros(2)}, {"a": torch.tensor([0.0, -0.0])}, more, *counters)
    assert len({weights.digest(state) for state in states}) == 6


def test_metadata_of_other_writers_is_skipped(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "w", metadata={"format": "pt"})
    assert weights.load(tmp_path / "w").keys() == {"a"}


def test_views_and_other_layouts_are_stored_by_value(tmp_path):
    whole = torch.arange(24.0).reshape(1, 2, 3, 4)
    state = {
        "transposed": whole.transpose(1, 3),
        "part": whole[0, 1],
        "same memory": whole[0, 1],
        "channels last": whole.contiguous(memory_format=torch.channels_last),
        "trained": whole.clone().requires_grad_(),
    }
    weights.save(tmp_path / "w", state)
    assert same(weights.load(tmp_path / "w"), {n: t.detach() for n, t in state.items()})


def test_loaded_tensors_can_be_changed_without_changing_the_file(tmp_path):
    weights.save(tmp_path / "w", {"a": torch.zeros(4)})
    weights.load(tmp_path / "w")["a"].add_(1)
    assert weights.load(tmp_path / "w")["a"].sum() == 0


def test_saving_again_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "deep" / "folder" / "w.safetensors"
    for value in (1.0, 2.0):
        weights.save(path, {"a": torch.full((3,), value)})
        assert weights.load(path)["a"].tolist() == [value] * 3
        assert os.listdir(path.parent) == ["w.safetensors"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("short write")])
def test_failed_writing_keeps_the_old_file(error, tmp_path):
    path = tmp_path / "w"
    weights.save(path, {"a": torch.ones(3)})
    with pytest.raises(MlplibError, match=r"cannot write .*(No space left|short write).*disk not full"):
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise error
    assert os.listdir(tmp_path) == ["w"]
    assert weights.load(path)["a"].tolist() == [1, 1, 1]


def test_sparse_weights_are_refused_by_name(tmp_path):
    with pytest.raises(MlplibError, match=r"^head is sparse.*make it dense$"):
        weights.save(tmp_path / "w", {"body": torch.ones(3), "head": torch.eye(3).to_sparse()})
    assert not os.listdir(tmp_path)


def test_interrupted_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "w"
    weights.save(path, {"a": torch.ones(3)})
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == ["w"]
    assert weights.load(path)["a"].tolist() == [1, 1, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file-size limits")
def test_a_file_that_cannot_grow_is_an_error_in_one_line(tmp_path):
    script = """
        import resource, signal, sys
        import torch
        from mlplib import weights
        from mlplib.errors import MlplibError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sys.dont_write_bytecode = True  # a part of it might be written
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            weights.save("big", {"a": torch.zeros(100_000)})
        except MlplibError as error:
            print(error)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(weights.__file__))},
        capture_output=True,
        text=True,
    )
    assert ran.stdout.startswith("cannot write big: ") and ran.stdout.count("\n") == 1, ran.stderr
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_is_an_error_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MlplibError, match=r"^cannot write .*check that the folder is writable"):
        weights.save(tmp_path / "file" / "w", {"a": torch.ones(3)})


def test_missing_file_and_folder_are_errors(tmp_path):
    for path, why in ((tmp_path / "none", "there are no"), (tmp_path, "cannot read the")):
        with pytest.raises(MlplibError, match=f"^{why} weights {path}"):
            weights.load(path)


def test_every_truncation_is_an_error(tmp_path):
    path = tmp_path / "w"
    weights.save(path, {"a": torch.ones(3), "b": torch.ones(2, 2, dtype=torch.bfloat16)})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(MlplibError, match="truncated or not a safetensors file"):
            weights.load(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(MlplibError, match="truncated or not a safetensors file"):
        weights.load(path)


HEADERS = {
    "no JSON": b"{nonsense",
    "a list": b"[]",
    "a number for a tensor": b'{"a":1}',
    "no offsets": b'{"a":{"dtype":"F32","shape":[1]}}',
    "unknown dtype": b'{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}',
    "shape too small": b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,8]}}',
    "negative shape": b'{"a":{"dtype":"U8","shape":[-2,-4],"data_offsets":[0,8]}}',
    "a hole": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
    "overlap": b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},'
    b'"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}',
    "backwards": b'{"a":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}}',
    "past the end": b'{"a":{"dtype":"U8","shape":[9000000000000],"data_offsets":[0,9000000000000]}}',
    "bytes left over": b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_every_damaged_header_is_an_error_in_one_line(header, tmp_path):
    path = tmp_path / "w"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(MlplibError, match="truncated or not a safetensors file"):
        weights.load(path)
