"""Specs: what they refuse, how they are written down, and which run an id names."""

import dataclasses
import json
import math
import subprocess
import sys
import typing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlplib import specs
from mlplib.data import catalog
from mlplib.errors import MlplibError
from mlplib.specs import (
    FULL_DA,
    AugmentSpec,
    CheckpointSpec,
    DataSpec,
    EvaluateSpec,
    FilterSpec,
    FineTuneSpec,
    ModelSpec,
    OptimizerSpec,
    ProbeSpec,
    RunSpec,
    TimingSpec,
    TrainSpec,
)
from mlplib.specs import base as specs_base
from mlplib.store import RUN_ID, run_id

TRAIN = TrainSpec(ModelSpec.parse("B-2/Wi-32"), DataSpec("shapes-16"), epochs=4, batch_size=8)
BASES = {
    ModelSpec: ModelSpec("s-mlp"),
    DataSpec: DataSpec("shapes-16"),
    AugmentSpec: FULL_DA,
    OptimizerSpec: OptimizerSpec(),
    TrainSpec: TRAIN,
    FilterSpec: FilterSpec(TRAIN),
    CheckpointSpec: CheckpointSpec("official", "0" * 64),
    FineTuneSpec: FineTuneSpec(TRAIN, DataSpec("cifar10"), epochs=4, batch_size=8),
    ProbeSpec: ProbeSpec(DataSpec("cifar10"), TRAIN),
    EvaluateSpec: EvaluateSpec(TRAIN),
    TimingSpec: TimingSpec(ModelSpec.parse("B-2/Wi-32"), (1, 8), seconds=1.0),
}

OFFICIAL = BASES[CheckpointSpec]
MEANT = {
    (ModelSpec, "expansion"): ModelSpec("b-mlp"),
    (OptimizerSpec, "momentum"): OptimizerSpec("sgd"),
    (DataSpec, "draw"): DataSpec("shapes-16", examples=64),
    (EvaluateSpec, "trained"): EvaluateSpec(OFFICIAL, data=DataSpec("shapes-16")),
    (EvaluateSpec, "data"): EvaluateSpec(OFFICIAL, data=DataSpec("shapes-16")),
    (EvaluateSpec, "real"): EvaluateSpec(OFFICIAL, data=DataSpec("imagenet")),
}
"""Where a setting means nothing to the base and is refused: a base to which it means something."""


def base_for(cls, name):
    """A spec of which the setting ``name`` can be changed."""
    return MEANT.get((cls, name), BASES[cls])


OTHER = {
    ModelSpec: dict(
        family="b-mlp",
        depth=7,
        width=31,
        expansion=3,
        norm="batch",
        norm_position="post",
        activation="relu",
        skip=False,
        dropout=0.1,
        official_order=True,
    ),
    DataSpec: dict(name="cifar10", examples=100, pixel_permutation=0, resolution=64, held_out=100, draw=1),
    AugmentSpec: dict(flip=False, crop_scale=(0.4, 1.0), crop_ratio=(1.0, 1.0), mixup=0.4, mixup_kind="ffcv"),
    OptimizerSpec: dict(
        name="sgd",
        lr=1e-3,
        weight_decay=1e-3,
        betas=(0.9, 0.999),
        momentum=0.8,
        schedule="cosine",
        warmup=0.5,
        clip=1.0,
    ),
    TrainSpec: dict(
        model=ModelSpec("small-cnn"),
        data=DataSpec("shapes-16", examples=64),
        epochs=5,
        batch_size=9,
        augment=FULL_DA,
        optimizer=OptimizerSpec("adamw"),
        label_smoothing=0.1,
        precision="fp32",
        evaluate_at=(2,),
        seed=1,
        keep_at=(1,),
    ),
    FilterSpec: dict(upstream=dataclasses.replace(TRAIN, seed=3), at="initial"),
    CheckpointSpec: dict(name="other", sha256="1" * 64),
    FineTuneSpec: dict(
        upstream=OFFICIAL,
        data=DataSpec("shapes-16"),
        epochs=5,
        batch_size=9,
        augment=FULL_DA,
        optimizer=OptimizerSpec("sgd", lr=0.1),
        body_lr=0.1,
        label_smoothing=0.1,
        precision="fp32",
        evaluate_at=(2,),
        seed=1,
    ),
    ProbeSpec: dict(
        data=DataSpec("shapes-16"),
        upstream=None,
        epoch=0,
        method="ridge",
        epochs=5,
        batch_size=9,
        optimizer=OptimizerSpec("adamw"),
        label_smoothing=0.1,
        seed=1,
    ),
    EvaluateSpec: dict(
        trained=CheckpointSpec("other", "1" * 64),
        data=DataSpec("cifar10"),
        crops=3,
        crop_scale=(0.1, 1.0),
        crop_ratio=(0.5, 2.0),
        flip=False,
        real=True,
        seed=1,
    ),
    TimingSpec: dict(
        model=ModelSpec.parse("vit-b/4"),
        batch_sizes=(1, 9),
        seconds=2.0,
        image_size=32,
        classes=10,
        precision="fp32",
        seed=1,
    ),
}
"""For every setting another valid value than that in BASES."""

FIELDS = [(cls, field.name) for cls in BASES for field in dataclasses.fields(cls)]


def all_specs() -> set[type]:
    """Every kind of run and, through the types of their fields, every part of one."""
    found: set[type] = set()
    queue = list(specs.KINDS.values())
    while queue:
        cls = queue.pop()
        if cls not in found:
            found.add(cls)
            queue += [h for h in typing.get_type_hints(cls).values() if dataclasses.is_dataclass(h)]
    return found


def hint(cls: type, name: str):
    return typing.get_type_hints(cls)[name]


def accepts(cls: type, name: str) -> set[type]:
    """The types that a field takes: float and None for ``float | None``, tuple for any tuple."""
    whole = hint(cls, name)
    parts = [whole] if typing.get_origin(whole) is tuple else typing.get_args(whole) or [whole]
    return {typing.get_origin(part) or part for part in parts}


def run_with(part) -> RunSpec:
    """A run that has ``part`` in it."""
    if isinstance(part, RunSpec):
        return part
    place = {ModelSpec: "model", DataSpec: "data", AugmentSpec: "augment", OptimizerSpec: "optimizer"}
    return dataclasses.replace(TRAIN, **{place[type(part)]: part})


def has_filters(spec: RunSpec) -> bool:
    """Whether it is a training of an MLP on images of more than one pixel."""
    if not isinstance(spec, TrainSpec):
        return False
    return spec.model.family not in specs.BASELINES and spec.data.resolution != 1


def through_json(spec: RunSpec) -> RunSpec:
    return RunSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False)))


def assert_one_line(caught) -> None:
    assert type(caught.value) is MlplibError
    assert "\n" not in str(caught.value) and len(str(caught.value)) > 10


# --------------------------------------------------------------------------- ids


def test_the_tables_of_this_file_know_every_setting():
    assert set(BASES) == all_specs(), "a new spec needs entries in BASES and OTHER"
    for cls, values in OTHER.items():
        assert set(values) == {f.name for f in dataclasses.fields(cls)}, cls


@pytest.mark.parametrize("cls, name", FIELDS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_every_setting_changes_the_id(cls, name):
    base, other = base_for(cls, name), OTHER[cls][name]
    assert getattr(base, name) != other
    changed = dataclasses.replace(base, **{name: other})
    assert run_id(run_with(changed)) != run_id(run_with(base))
    if has_filters(run_with(base)) and has_filters(run_with(changed)):
        looks = FilterSpec(run_with(base)), FilterSpec(run_with(changed))
        assert run_id(looks[0]) != run_id(looks[1]), "a look at another run is another run"


def test_ids_differ_between_all_single_changes():
    variants = [
        run_with(dataclasses.replace(base_for(cls, name), **{name: OTHER[cls][name]})) for cls, name in FIELDS
    ]
    variants += [run_with(base) for base in (*BASES.values(), *MEANT.values())]
    ids = {run_id(spec) for spec in variants}
    assert len(ids) == len(set(variants))


def test_ids_follow_the_data_and_the_numerics_version(monkeypatch):
    before = run_id(TRAIN), run_id(FilterSpec(TRAIN))
    with monkeypatch.context() as patch:
        patch.setattr(specs_base, "NUMERICS_VERSION", specs_base.NUMERICS_VERSION + 1)
        raised = run_id(TRAIN), run_id(FilterSpec(TRAIN))
    entry = catalog.CATALOG["shapes-16"]
    monkeypatch.setitem(catalog.CATALOG, "shapes-16", dataclasses.replace(entry, content_hash="0" * 64))
    other = run_id(TRAIN), run_id(FilterSpec(TRAIN))
    assert len({*before, *raised, *other}) == 6


def test_ids_are_readable_names_that_any_file_system_takes():
    spec = dataclasses.replace(TRAIN, augment=FULL_DA, data=DataSpec("shapes-16", examples=64))
    slug, _, digest = run_id(spec).rpartition("-")
    assert slug == "b2wi32-shapes-16-n64-da-4ep-s0"
    assert len(digest) == 12 and set(digest) <= set("0123456789abcdef")
    assert run_id(FilterSpec(spec)).startswith("filters-final-b2wi32-shapes-16")


def test_ids_with_long_names_of_own_folders_are_names_that_any_file_system_takes():
    own = "own-" + 100 * "f" + "-64"  # the longest name (mlplib.data.get.own.name_of)
    upstream = dataclasses.replace(TRAIN, data=DataSpec(own))
    tuned = FineTuneSpec(upstream, DataSpec(own), epochs=1, batch_size=8)
    specs = [upstream, tuned, ProbeSpec(DataSpec(own), upstream), ProbeSpec(DataSpec(own), upstream, seed=1)]
    ids = {spec.id_on({own: "0" * 64}) for spec in (*specs, EvaluateSpec(tuned))}
    assert len(ids) == 5
    for each in ids:
        assert RUN_ID.fullmatch(each) and len(each) <= 255, each


def test_ids_are_the_same_in_every_process():
    program = (
        "from mlplib.specs import *; from mlplib.store import run_id; "
        "spec = TrainSpec(ModelSpec.parse('B-2/Wi-32'), DataSpec('shapes-16'), epochs=4, batch_size=8); "
        "print(run_id(spec))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(p for p in sys.path if p)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {run_id(TRAIN)}


WHOLE = {
    (ModelSpec, "dropout"): 0,
    (AugmentSpec, "crop_scale"): (1, 1),
    (AugmentSpec, "crop_ratio"): (1, 2),
    (AugmentSpec, "mixup"): 1,
    (OptimizerSpec, "lr"): 5,
    (OptimizerSpec, "weight_decay"): 1,
    (OptimizerSpec, "betas"): (0, 0),
    (OptimizerSpec, "momentum"): 0,
    (OptimizerSpec, "warmup"): 2,
    (OptimizerSpec, "clip"): 1,
    (TrainSpec, "label_smoothing"): 0,
    (FineTuneSpec, "body_lr"): 1,
    (FineTuneSpec, "label_smoothing"): 0,
    (ProbeSpec, "label_smoothing"): 0,
    (EvaluateSpec, "crop_scale"): (1, 1),
    (EvaluateSpec, "crop_ratio"): (1, 2),
    (TimingSpec, "seconds"): 3,
}


def test_five_and_five_point_zero_are_one_setting():
    assert set(WHOLE) == {key for key in FIELDS if "float" in str(hint(*key))}
    for (cls, name), whole in WHOLE.items():
        real = tuple(map(float, whole)) if isinstance(whole, tuple) else float(whole)
        base = base_for(cls, name)
        one, other = (run_with(dataclasses.replace(base, **{name: v})) for v in (whole, real))
        assert one == other and run_id(one) == run_id(other), (cls, name)
        assert json.dumps(one.to_json()) == json.dumps(other.to_json()), (cls, name)


def test_minus_zero_is_zero():
    specs_ = [run_with(OptimizerSpec(weight_decay=zero, betas=(zero, 0.5))) for zero in (0.0, -0.0)]
    assert specs_[0] == specs_[1] and run_id(specs_[0]) == run_id(specs_[1])


# --------------------------------------------------------------------------- JSON

positive = st.floats(1e-6, 1e3)
share = st.floats(0, 1, exclude_max=True)
sizes = st.integers(1, 5000)


@st.composite
def model_specs(draw):
    family = draw(st.sampled_from([*specs.FAMILIES.values(), *specs.BASELINES]))
    if family in specs.BASELINES:
        return ModelSpec(family)
    norm = draw(st.sampled_from(specs.NORMS))
    return ModelSpec(
        family,
        depth=draw(sizes),
        width=draw(sizes),
        expansion=draw(sizes) if family == "b-mlp" else 4,
        norm=norm,
        norm_position="pre" if norm == "none" else draw(st.sampled_from(specs.NORM_POSITIONS)),
        activation=draw(st.sampled_from(specs.ACTIVATIONS)),
        skip=draw(st.booleans()),
        dropout=draw(share),
        official_order=draw(st.booleans()) if family == "s-mlp" else False,
    )


ordered = st.tuples(st.floats(1e-3, 1), st.floats(1e-3, 1)).map(lambda pair: tuple(sorted(pair)))


@st.composite
def augment_specs(draw):
    crop_scale, mixup = draw(st.none() | ordered), draw(st.just(0.0) | st.floats(1e-3, 10))
    idle = {}
    if crop_scale is not None:
        idle["crop_ratio"] = draw(ordered)
    if mixup:
        idle["mixup_kind"] = draw(st.sampled_from(specs.MIXUP_KINDS))
    return AugmentSpec(flip=draw(st.booleans()), crop_scale=crop_scale, mixup=mixup, **idle)


@st.composite
def optimizer_specs(draw, epochs):
    name = draw(st.sampled_from(specs.OPTIMIZERS))
    own = {"momentum": draw(share)} if name == "sgd" else {"betas": draw(st.tuples(share, share))}
    return OptimizerSpec(
        name,
        lr=draw(st.floats(0, 10)),
        weight_decay=draw(st.floats(0, 10)),
        schedule=draw(st.sampled_from(specs.SCHEDULES)),
        warmup=draw(st.floats(0, epochs)),
        clip=draw(st.none() | positive),
        **own,
    )


@st.composite
def train_specs(draw):
    augment = draw(augment_specs())
    moves = augment.flip or augment.crop_scale is not None
    epochs = draw(sizes)
    return TrainSpec(
        model=draw(model_specs()),
        data=DataSpec(
            draw(st.sampled_from(sorted(catalog.CATALOG))),
            examples=draw(st.none() | sizes),
            pixel_permutation=None if moves else draw(st.none() | st.integers(0, 9)),
        ),
        epochs=epochs,
        batch_size=draw(sizes),
        augment=augment,
        optimizer=draw(optimizer_specs(epochs)),
        label_smoothing=draw(share),
        precision=draw(st.sampled_from(specs.PRECISIONS)),
        evaluate_at=tuple(draw(st.sets(st.integers(1, epochs), max_size=4))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


looked_at = train_specs().filter(has_filters)
run_specs = train_specs() | st.builds(FilterSpec, looked_at, at=st.sampled_from(["initial", "final"]))


@settings(max_examples=60, deadline=None)
@given(run_specs)
def test_specs_survive_json(spec):
    again = through_json(spec)
    assert again == spec and run_id(again) == run_id(spec) and hash(again) == hash(spec)
    assert type(again) is type(spec)


@settings(max_examples=60, deadline=None)
@given(train_specs(), train_specs())
def test_equal_ids_mean_equal_specs(one, other):
    assert (run_id(one) == run_id(other)) == (one == other)


def test_lists_become_tuples():
    spec = TrainSpec(TRAIN.model, TRAIN.data, 4, 8, AugmentSpec(crop_scale=[0.5, 1.0]), evaluate_at=[1, 2])
    assert spec.evaluate_at == (1, 2) and spec.augment.crop_scale == (0.5, 1.0)
    assert isinstance(hash(spec), int)


@pytest.mark.parametrize("cls, name", FIELDS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_specs_are_frozen(cls, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(BASES[cls], name, OTHER[cls][name])


def altered(path: str, value) -> dict:
    """The JSON of a look at a run with one entry replaced."""
    values = json.loads(json.dumps(FilterSpec(TRAIN).to_json()))
    *parents, last = path.split("/")
    place = values
    for key in parents:
        place = place[key]
    place[last] = value
    return values


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "unknown kind of run None"),
        (
            {"kind": "nope"},
            "unknown kind of run 'nope': choose one of checkpoint, evaluate, filters, finetune, probe",
        ),
        ({"kind": ["train"]}, "unknown kind of run"),
        ({"kind": "filters"}, "upstream"),
        ({"kind": "train", "epochs": 3}, "lacks .*batch_size"),
        (altered("depth", 3), "FilterSpec has no setting 'depth'"),
        (altered("upstream/model/deep", 3), "ModelSpec has no setting 'deep': choose from .*depth"),
        (altered("upstream/model/depth", {}), "ModelSpec.depth must be a whole number"),
        (altered("upstream/model", "B-2/Wi-32"), "TrainSpec.model must be ModelSpec"),
        (altered("upstream/model", None), "TrainSpec.model must be ModelSpec"),
        (altered("upstream/evaluate_at", 3), "TrainSpec.evaluate_at must be tuple.int, ...."),
        (altered("upstream/optimizer/lr", "5e-5"), "OptimizerSpec.lr must be a finite number, not '5e-5'"),
        (altered("upstream/kind", "filters"), "."),
        (altered("upstream", FilterSpec(TRAIN).to_json()), "FilterSpec.upstream must be TrainSpec"),
        ([], "."),
        (["kind"], "."),
        ("train", "."),
        (None, "."),
        (7, "."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_that_is_no_spec_is_refused_in_one_line(values, message):
    with pytest.raises(MlplibError, match=message) as caught:
        RunSpec.from_json(values)
    assert_one_line(caught)


# --------------------------------------------------------------------------- bad values

HUGE = 10**400
ANY = [object(), b"x", {}, {1}, 1j, math.nan, math.inf, -math.inf, HUGE]
BAD = {
    int: [-1, -(10**30), 1.5, 1.0, True, False, "3", (3,), *ANY[:-1]],
    float: [-1, -0.5, -HUGE, "0.1", "5e-5", True, (0.1,), [0.1], *ANY],
    bool: [0, 1, "yes", "true", None, 0.0, (), *ANY],
    str: ["", "nope", 0, True, None, ("layer",), *ANY],
    tuple: [
        3,
        0.5,
        "ab",
        True,
        ("a", "b"),
        ("0.1", "0.5"),
        (True, True),
        (None, None),
        (math.nan, 0.5),
        (0.5, math.nan),
        (-0.5, 0.5),
        (math.inf, math.inf),
        (-HUGE, HUGE),
        ((1, 2), (1, 2)),
        (0.0, 2.0),
        *ANY,
    ],
}


FREE_TEXT = {(CheckpointSpec, "name")}
"""Where any name will do."""


def bad_values(cls, name):
    others = [base for kind, base in BASES.items() if kind not in accepts(cls, name)]
    for kind in accepts(cls, name):
        if dataclasses.is_dataclass(kind):
            yield from ("B-2/Wi-32", 3, {}, ModelSpec, *others)
        elif kind is not type(None):
            yield from (v for v in BAD[kind] if v != "nope" or (cls, name) not in FREE_TEXT)
    if type(None) not in accepts(cls, name):
        yield None


@pytest.mark.parametrize("cls, name", FIELDS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_every_bad_value_is_refused_in_one_line(cls, name):
    for value in bad_values(cls, name):
        with pytest.raises(MlplibError) as caught:
            # The name of a data set is looked up where its content is needed.
            run_id(run_with(dataclasses.replace(BASES[cls], **{name: value})))
        assert_one_line(caught)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda: ModelSpec("b-mlp", depth=0), "ModelSpec.depth must be at least 1, not 0"),
        (lambda: ModelSpec("b-mlp", dropout=1), "ModelSpec.dropout must be below 1, not 1"),
        (lambda: ModelSpec("b-mlp", official_order=True), "official_order means nothing with b-mlp"),
        (lambda: ModelSpec("s-mlp", expansion=3), "expansion means nothing with s-mlp"),
        (lambda: ModelSpec("small-cnn", depth=3), "depth means nothing with small-cnn"),
        (lambda: ModelSpec.parse("small-cnn", width=3), "width means nothing with small-cnn"),
        (lambda: ModelSpec("b-mlp", norm="none", norm_position="post"), "means nothing with norm 'none'"),
        (
            lambda: ModelSpec("resnet"),
            "ModelSpec.family must be one of b-mlp, s-mlp, small-cnn.*, not 'resnet'",
        ),
        (
            lambda: ModelSpec("b-mlp", activation="tanh"),
            "ModelSpec.activation must be one of gelu, relu, not 'tanh'",
        ),
        (lambda: DataSpec("cifar10", examples=0), "DataSpec.examples must be at least 1"),
        (lambda: run_id(run_with(DataSpec("mnist"))), "unknown data set 'mnist': choose one of"),
        (lambda: AugmentSpec(crop_scale=(0.5, 1.1)), "crop_scale must be at most 1"),
        (lambda: AugmentSpec(crop_scale=(0, 1)), "crop_scale must be above 0"),
        (lambda: AugmentSpec(crop_scale=(0.9, 0.5)), "two numbers that do not fall"),
        (lambda: AugmentSpec(crop_scale=(0.5,)), r"must be tuple\[float, float\]"),
        (lambda: AugmentSpec(mixup_kind="cutmix"), "mixup_kind must be one of standard, ffcv"),
        (lambda: OptimizerSpec(lr=-1e-3), "OptimizerSpec.lr must be at least 0"),
        (lambda: OptimizerSpec(lr=1e300), "OptimizerSpec.lr must be below 1.7"),
        (lambda: AugmentSpec(mixup=1e300), "AugmentSpec.mixup must be below"),
        (lambda: AugmentSpec(crop_scale=(0.1, 1), crop_ratio=(1e-300, 1)), "crop_ratio must be above 1e-06"),
        (lambda: ModelSpec("b-mlp", width=10**12), "ModelSpec.width must be below 1000000000, not 10000"),
        (lambda: dataclasses.replace(TRAIN, epochs=10**30), "TrainSpec.epochs must be below 1000000000"),
        (lambda: dataclasses.replace(TRAIN, keep_at=(10**30,)), "TrainSpec.keep_at must be below 1000000000"),
        (lambda: DataSpec("cifar10", pixel_permutation=2**32), "DataSpec.pixel_permutation must be below"),
        (lambda: EvaluateSpec(TRAIN, crops=10**12), "EvaluateSpec.crops must be below 100000, not 10000"),
        (
            lambda: EvaluateSpec(
                dataclasses.replace(TRAIN, data=DataSpec("imagenet", held_out=50_000)), real=True
            ),
            "ReaL labels are for ImageNet's validation images, not for 50,000 held out: leave real out",
        ),
        (
            lambda: FilterSpec(dataclasses.replace(TRAIN, data=DataSpec("cifar10", resolution=1))),
            "filters are for B-MLPs and S-MLPs on images of more than one pixel",
        ),
        (
            lambda: FilterSpec(dataclasses.replace(TRAIN, model=ModelSpec("small-cnn")), at="initial"),
            "filters are for B-MLPs and S-MLPs",
        ),
        (lambda: OptimizerSpec(lr=math.inf), "OptimizerSpec.lr must be a finite number"),
        (lambda: OptimizerSpec(clip=0), "OptimizerSpec.clip must be above 0"),
        (lambda: OptimizerSpec(betas=(0.9, 1.0)), "betas must be below 1"),
        (lambda: OptimizerSpec(betas=(0.9,)), r"betas must be tuple\[float, float\]"),
        (lambda: DataSpec("shapes-16", draw=1), "draw means nothing with all examples"),
        (lambda: OptimizerSpec("lion", momentum=0.8), "momentum means nothing with lion"),
        (lambda: OptimizerSpec("sgd", betas=(0.9, 0.999)), "betas means nothing with sgd"),
        (lambda: AugmentSpec(crop_ratio=(1.0, 1.0)), "crop_ratio means nothing with no crop"),
        (lambda: AugmentSpec(mixup_kind="ffcv"), "mixup_kind means nothing with no MixUp"),
        (lambda: dataclasses.replace(TRAIN, optimizer=OptimizerSpec(warmup=1e4)), "a warmup of 10000 epochs"),
        (
            lambda: ProbeSpec(DataSpec("cifar10"), None, epochs=5, optimizer=OptimizerSpec(warmup=6)),
            "a warmup of 6 epochs is longer than the run's 5: shorten it",
        ),
        (lambda: dataclasses.replace(TRAIN, epochs=0), "TrainSpec.epochs must be at least 1"),
        (lambda: dataclasses.replace(TRAIN, batch_size=0), "TrainSpec.batch_size must be at least 1"),
        (lambda: dataclasses.replace(TRAIN, label_smoothing=1.0), "label_smoothing must be below 1"),
        (
            lambda: dataclasses.replace(TRAIN, evaluate_at=(5,)),
            "evaluate_at must be epochs up to 4",
        ),
        (
            lambda: dataclasses.replace(TRAIN, evaluate_at=(0,)),
            "evaluate_at must be at least 1",
        ),
        (lambda: dataclasses.replace(TRAIN, evaluate_at=(True,)), "evaluate_at must be tuple.int, ...."),
        (lambda: dataclasses.replace(TRAIN, evaluate_at=(1.0,)), "evaluate_at must be tuple.int, ...."),
        (lambda: dataclasses.replace(TRAIN, seed=2**64), f"TrainSpec.seed must be below {2**32}"),
        (lambda: dataclasses.replace(TRAIN, precision="fp8"), "precision must be one of auto, bf16"),
        (lambda: FilterSpec(TRAIN, at="middle"), "at must be one of initial, final, not 'middle'"),
    ],
)
def test_bad_values_are_named_with_what_would_do(change, message):
    with pytest.raises(MlplibError, match=message) as caught:
        change()
    assert_one_line(caught)


def test_numbers_of_numpy_are_those_of_python():
    """Settings of an analysis often come from an array; JSON knows Python's numbers only."""
    given = dict(epochs=np.int64(3), label_smoothing=np.float32(0.5), evaluate_at=[np.int32(1), np.int64(2)])
    spec, same = (
        dataclasses.replace(TRAIN, **given),
        dataclasses.replace(TRAIN, epochs=3, label_smoothing=0.5, evaluate_at=(1, 2)),
    )
    assert spec == same and run_id(spec) == run_id(same) and type(spec.evaluate_at[0]) is int
    assert AugmentSpec(flip=np.bool_(True)) == AugmentSpec(flip=True)
    for refused in (np.float64(2.5), np.array([3]), np.str_("3"), "3", np.bool_(True)):
        with pytest.raises(MlplibError, match=r"TrainSpec.epochs must be a whole number"):
            dataclasses.replace(TRAIN, epochs=refused)
    for name, refused in (
        ("lr", np.float64(-1)),
        ("betas", (np.float64(2), 0.9)),
    ):  # to Python, these are floats
        with pytest.raises(MlplibError, match=f"OptimizerSpec.{name} must be"):
            OptimizerSpec(**{name: refused})


@pytest.mark.parametrize("augment", [AugmentSpec(flip=True), AugmentSpec(crop_scale=(0.5, 1.0)), FULL_DA])
def test_permuted_pixels_cannot_be_flipped_or_cropped(augment):
    data = DataSpec("shapes-16", pixel_permutation=0)
    with pytest.raises(MlplibError, match="flips and crops mean nothing on permuted pixels"):
        dataclasses.replace(TRAIN, data=data, augment=augment)
    assert dataclasses.replace(TRAIN, data=data, augment=AugmentSpec(mixup=0.8)).augment.any


def test_permuted_pixels_are_not_resized_or_cropped_in_a_test_either():
    # An MLP on 8 x 8 shapes lost 18 points to the permutation, and test-time augmentation took 41 of 54.
    with pytest.raises(MlplibError, match="use pixel_permutation without resolution"):
        DataSpec("shapes-16", pixel_permutation=0, resolution=8)
    permuted = dataclasses.replace(TRAIN, data=DataSpec("shapes-16", pixel_permutation=0))
    with pytest.raises(MlplibError, match="test-time augmentation means nothing on permuted pixels"):
        EvaluateSpec(permuted)
    assert EvaluateSpec(permuted, crops=0).tested_on.pixel_permutation == 0


# --------------------------------------------------------------------------- names


@settings(max_examples=60, deadline=None)
@given(st.sampled_from("BS"), st.integers(1, 10**6), st.integers(1, 10**6))
def test_names_parse_and_print_back(letter, depth, width):
    name = f"{letter}-{depth}/Wi-{width}"
    spec = ModelSpec.parse(name)
    assert (spec.name, str(spec), spec.depth, spec.width) == (name, name, depth, width)
    paper = {"B": ("b-mlp", "gelu", True), "S": ("s-mlp", "relu", False)}[letter]
    assert (spec.family, spec.activation, spec.skip) == paper
    assert (spec.norm, spec.norm_position, spec.expansion, spec.dropout) == ("layer", "pre", 4, 0.0)
    assert not spec.official_order


@pytest.mark.parametrize("name", specs.BASELINES)
def test_baselines_parse_and_print_back(name):
    assert ModelSpec.parse(name).name == name


def test_parsing_takes_changes():
    assert ModelSpec.parse("S-3/Wi-8", skip=True, norm="none") == ModelSpec(
        "s-mlp", depth=3, width=8, activation="relu", skip=True, norm="none"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("", "B", "B-6", "b-6/wi-256", "B-0/Wi-256", "B-6/Wi-0", "B-06/Wi-256", "B--6/Wi-256", "M-6/Wi-256"),
        *("B-6/Wi-256 ", "B-6/Wi-256\n", " B-6/Wi-256", "B-6/Wi-2e3", "B-6/Wi-1.5", "B-٣/Wi-4"),
        *("resnet-18", "ViT-B/4", "vit-b/16"),
        *("small_cnn", None, 6, b"B-6/Wi-256", "B-" + "9" * 5000 + "/Wi-4"),
    ],
    ids=lambda name: repr(name)[:20],
)
def test_other_names_are_refused(name):
    with pytest.raises(MlplibError, match="unknown model") as caught:
        ModelSpec.parse(name)
    assert_one_line(caught)


@given(st.text(max_size=20))
def test_no_text_crashes_the_parser(text):
    try:
        spec = ModelSpec.parse(text)
    except MlplibError as error:
        assert "\n" not in str(error)
    else:
        assert spec.name == text


# --------------------------------------------------------------------------- weight of the import


@pytest.mark.parametrize(
    "module", ["mlplib", "mlplib.specs", "mlplib.data.catalog", "mlplib.errors", "mlpstudy.profiles"]
)
def test_planning_modules_import_no_torch(module):
    program = f"import sys, {module}\n"
    if module == "mlplib.specs":
        program += "from mlplib.specs import *\nfrom mlplib.store import run_id\n"
        program += "run_id(TrainSpec(ModelSpec('b-mlp'), DataSpec('cifar10'), 1, 1))\n"
    program += "assert 'torch' not in sys.modules"
    environment = {"PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
