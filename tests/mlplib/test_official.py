"""Official checkpoints: found, known by their content, refused in one line, and run through two chapters."""

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from mlp_formulas import CLASSES, official_state, pixels, reference
from small_runs import ROOT

from mlplib import official
from mlplib.errors import MlplibError
from mlplib.executor import Executor
from mlplib.models import build_model
from mlplib.specs import CheckpointSpec, EvaluateSpec, FineTuneSpec, ModelSpec, ProbeSpec
from mlplib.store import RunStore, run_id
from mlpstudy.book import execute
from mlpstudy.book.chapter import open_chapter
from mlpstudy.book.page_scoreboard import open_scoreboard
from mlpstudy.experiments import EXPERIMENTS, experiment
from mlpstudy.profiles import PROFILES

CPU = torch.device("cpu")
TAKING = ("transfer", "linear-probes")


def save(path, name="B-1/Wi-16", side=16, classes=7, seed=0, **changes):
    """A file as the official code writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network = build_model(ModelSpec.parse(name, **changes), (side, side, 3), classes, seed=seed)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def folder(tmp_path):
    """As downloads may lie: a folder each, with notes beside, and one file twice."""
    root = tmp_path / "official"
    save(root / "B_1-Wi_16" / "weights")
    save(root / "a-classifier", classes=4)
    (root / "B_1-Wi_16" / "config.txt").write_text("depth: 1")
    (root / "README.md").write_text("notes")
    (root / ".DS_Store").write_bytes(b"\x00")
    (root / ".cache").mkdir()
    (root / ".cache" / "part").write_bytes(b"half a download")
    shutil.copy(root / "B_1-Wi_16" / "weights", root / "copy of it.pt")
    return root


# --------------------------------------------------------------------------- finding


def test_every_different_file_is_found_once_and_described(folder):
    found = official.find(folder)
    assert [c.path.name for c in found] == ["weights", "a-classifier"]
    assert [(c.model.name, c.image_size, c.classes) for c in found] == [
        ("B-1/Wi-16", 16, 7),
        ("B-1/Wi-16", 16, 4),
    ]
    for each in found:
        assert each.spec.sha256 == hashlib.sha256(each.path.read_bytes()).hexdigest()


def test_a_name_tells_what_the_published_ones_are_not(tmp_path, folder):
    assert [c.spec.name for c in official.find(folder)] == [
        "B-1/Wi-16, 16 px, 7 classes",
        "B-1/Wi-16, 16 px, 4 classes",
    ]
    published = official.read(save(tmp_path / "p", side=64, classes=11_230))
    assert published.spec.name == "B-1/Wi-16"


def test_moving_the_folder_changes_no_run(folder, tmp_path):
    before = [c.spec for c in official.find(folder)]
    os.replace(folder, tmp_path / "elsewhere")
    assert [c.spec for c in official.find(str(tmp_path / "elsewhere"))] == before


def test_an_s_mlp_of_the_official_order_is_one_too(tmp_path):
    save(tmp_path / "s", "S-2/Wi-16", official_order=True, activation="gelu")
    (found,) = official.find(tmp_path)
    assert found.model.family == "s-mlp" and found.model.depth == 2


@pytest.mark.parametrize(
    "side, name, resolution",
    [(64, "cifar10", 64), (32, "cifar10", None), (16, "shapes-16", None), (8, "shapes-16", 8)],
)
def test_data_come_at_the_size_that_the_weights_read(tmp_path, side, name, resolution):
    found = official.read(save(tmp_path / "w", side=side))
    assert (found.data(name).name, found.data(name).resolution) == (name, resolution)


# --------------------------------------------------------------------------- reading

OFFICIAL = [
    ("b-mlp", 1, dict()),
    ("b-mlp", 13, dict(width=6)),
    ("b-mlp", 2, dict(expansion=2, classes=11, side=8)),
    ("b-mlp", 2, dict(norm="batch")),
    ("b-mlp", 2, dict(norm="none")),
    ("s-mlp", 1, dict()),
    ("s-mlp", 12, dict(width=16, side=5)),
]


@pytest.mark.parametrize("family, depth, sizes", OFFICIAL, ids=str)
def test_official_checkpoints_load_with_the_official_logits(family, depth, sizes, tmp_path):
    state = official_state(family, depth, **sizes)
    torch.save(state, tmp_path / "official")
    before = torch.get_rng_state()
    model = official.load(tmp_path / "official")
    assert torch.equal(before, torch.get_rng_state()), "loading must not draw random numbers"

    side, spec = sizes.get("side", 4), model.spec
    assert (spec.family, spec.depth, spec.width) == (family, depth, sizes.get("width", 8))
    assert (spec.norm, spec.expansion) == (sizes.get("norm", "layer"), sizes.get("expansion", 4))
    assert model.classes == sizes.get("classes", CLASSES) and model.image_shape == (side, side, 3)
    assert model.training and all(p.requires_grad for p in model.parameters())

    meant = dataclasses.replace(spec, activation="gelu", norm_position="pre", skip=family == "b-mlp")
    images = pixels(shape=model.image_shape)
    torch.testing.assert_close(model.eval()(images), reference(state, meant, images), rtol=1e-4, atol=1e-5)
    ours = model.state_dict()
    assert ours.keys() == state.keys() and all(torch.equal(ours[name], state[name]) for name in state)


def test_half_precision_checkpoints_become_float32(tmp_path):
    state = {name: tensor.half() for name, tensor in official_state("b-mlp", 2).items()}
    torch.save(state, tmp_path / "half")
    model = official.load(tmp_path / "half")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.linear_in.weight, state["linear_in.weight"].float())


# --------------------------------------------------------------------------- refusing


GOOD, GOOD_S = official_state("b-mlp", 2), official_state("s-mlp", 2)


def but(**entries):
    """The good state dict with some entries replaced, or with None taken out; ``__`` stands for a dot."""
    changed = GOOD | {name.replace("__", "."): value for name, value in entries.items()}
    return {name: value for name, value in changed.items() if value is not None}


BAD_STATES = {
    "empty": ({}, "lacks linear_in.weight"),
    "no head": (but(linear_out__weight=None), "lacks linear_out.weight"),
    "no blocks": ({n: t for n, t in GOOD.items() if "blocks" not in n}, "depth must be at least 1"),
    "no first block": (but(blocks__0__block__0__weight=None), "lacks blocks.0.block.0.weight"),
    "a gap": (
        {n.replace("blocks.2", "blocks.7"): t for n, t in official_state("b-mlp", 3).items()},
        "Unexpected key.*blocks.7.block.0.weight",
    ),
    "a bias less": (but(blocks__1__block__2__bias=None), "Missing key.*blocks.1.block.2.bias"),
    "a norm less": (but(layernorms__1__weight=None), "Missing key.*layernorms.1.weight"),
    "a name more": (but(extra__weight=torch.ones(2)), "Unexpected key.*extra.weight"),
    "a norm more": ({**GOOD_S, "layernorms.2.weight": torch.ones(8)}, "Unexpected.*layernorms.2.weight"),
    "both kinds": (but(layers__0__weight=torch.ones(8, 8)), "Unexpected key.*layers.0.weight"),
    "wrong width": (but(blocks__1__block__0__weight=torch.ones(32, 9)), r"mismatch.*\[32, 9\].*\[32, 8\]"),
    "other width": (but(blocks__0__block__0__weight=torch.ones(32, 16)), "size mismatch"),
    "wrong bias": (but(linear_out__bias=torch.ones(6)), "size mismatch for linear_out.bias"),
    "no expansion": (but(blocks__0__block__0__weight=torch.ones(33, 8)), "size mismatch"),
    "no square": (but(linear_in__weight=torch.ones(8, 30)), "size mismatch for linear_in.weight"),
    "no matrix": (but(linear_in__weight=torch.ones(8)), "not a matrix"),
    "no pixels": (but(linear_in__weight=torch.ones(8, 0)), "all at least 1"),
    "integers": (but(linear_out__bias=torch.ones(5).long()), "linear_out.bias"),
}


def refusal(path):
    with pytest.raises(MlplibError) as caught:
        official.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize("state, message", BAD_STATES.values(), ids=BAD_STATES)
def test_wrong_names_and_shapes_are_an_error_in_one_line(state, message, tmp_path):
    torch.save(state, tmp_path / "w")
    said = refusal(tmp_path / "w")
    assert said.startswith(f"checkpoint {tmp_path / 'w'} is not an official S-MLP or B-MLP: ")
    assert re.search(message, said)


@pytest.mark.parametrize(
    "content", [[1, 2], {"model": GOOD}, {"epoch": 3, **GOOD}, {3: torch.ones(2)}, torch.ones(3)], ids=type
)
def test_files_with_something_else_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "w")
    assert "is not a state dict of names and tensors" in refusal(tmp_path / "w")


@pytest.mark.parametrize("kind", [torch.Tensor.to_sparse, lambda value: value.to(torch.complex64)])
def test_sparse_and_complex_weights_are_refused(kind, tmp_path):
    torch.save(but(linear_in__weight=kind(GOOD["linear_in.weight"])), tmp_path / "w")
    assert "has sparse or complex weights" in refusal(tmp_path / "w")


class Evil:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"linear_in.weight": Evil()}, "w")
    assert "cannot be read" in refusal("w") and os.listdir() == ["w"]


def test_missing_and_damaged_files_are_an_error_in_one_line(tmp_path):
    path = tmp_path / "w"
    for missing in (path, tmp_path):
        assert refusal(missing).startswith(f"checkpoint {missing} cannot be read")
    torch.save(GOOD, path)
    whole = path.read_bytes()
    damaged = [whole[: len(whole) * part // 8] for part in range(8)]
    damaged += [whole[:-1], b"hello", b"<!DOCTYPE html>", b"\x80\x02garbage", b"PK" + whole]
    for content in damaged:
        path.write_bytes(content)
        assert refusal(path).startswith(f"checkpoint {path} cannot be read")


@pytest.mark.parametrize("content", [b"404: not found", None], ids=["text", "a layer missing"])
@pytest.mark.parametrize("name", TAKING)
def test_a_bad_file_is_named_in_one_line_before_anything_runs(name, content, folder, tmp_path):
    path = folder / "a-classifier"
    if content is None:
        torch.save(but(layernorms__0__weight=None), path)
    else:
        path.write_bytes(content)
    given = dict(profile="smoke", runs_dir=str(tmp_path / "runs"), results_dir=str(tmp_path), device="cpu")
    with pytest.raises(MlplibError) as caught:
        open_chapter(name, **given, official_checkpoints=str(folder))
    assert str(path) in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(MlplibError, match=r"weights cannot be read \(Permission denied\)"):
        official.find(folder)


def test_a_link_that_leads_nowhere_is_named(folder):
    (folder / "lost").symlink_to(folder / "nothing")
    with pytest.raises(MlplibError, match=r"lost cannot be read \(No such file or directory\)"):
        official.find(folder)


@pytest.mark.parametrize("content", [[], ["config.txt"], [".hidden", "notes.md", "LOG.TXT"]], ids=str)
def test_a_folder_without_a_checkpoint_is_one_line(content, tmp_path):
    for name in content:
        (tmp_path / name).write_text("x")
    with pytest.raises(MlplibError, match=f"there is no checkpoint in {tmp_path}: put the official files"):
        official.find(tmp_path)


def test_what_is_no_folder_is_one_line(tmp_path):
    with pytest.raises(MlplibError, match=r"must be the path of a folder, not .*: there is none"):
        official.find(tmp_path / "missing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(MlplibError, match=r"must be the path of a folder, not .*: it is a file"):
        official.find(tmp_path / "file")


# --------------------------------------------------------------------------- running


def test_a_checkpoint_becomes_a_run_with_its_weights(folder, tmp_path):
    (found, _), store = official.find(folder), RunStore(tmp_path / "runs")
    executor = Executor(store, device=CPU, checkpoints=[found])
    record = executor.record(found.spec)
    assert record.data == {"model": "B-1/Wi-16", "image_size": 16, "classes": 7}
    assert record.metrics["parameters"] == sum(p.numel() for p in executor.network(found.spec).parameters())
    original = torch.load(found.path, weights_only=True)
    kept = executor.weights(found.spec)
    assert kept.keys() == original.keys() and all(torch.equal(kept[n], original[n]) for n in kept)
    found.path.unlink()
    assert Executor(store, device=CPU).record(found.spec) == record, "once read, the file is not needed"


def test_a_file_that_changed_after_it_was_found_is_refused(folder, tmp_path):
    found = official.find(folder)
    save(found[0].path, seed=1)
    executor = Executor(RunStore(tmp_path / "runs"), device=CPU, checkpoints=found)
    with pytest.raises(MlplibError, match=r"weights has changed since it was found: start again"):
        executor.record(found[0].spec)
    assert executor.store.find(found[0].spec) is None


def test_without_its_file_a_checkpoint_cannot_be_run(tmp_path):
    executor = Executor(RunStore(tmp_path), device=CPU)
    with pytest.raises(MlplibError, match=r"no file here holds the checkpoint X.*official_checkpoints"):
        executor.record(CheckpointSpec("X", "0" * 64))


@pytest.mark.parametrize("name", TAKING)
@pytest.mark.parametrize("budget", PROFILES)
def test_every_checkpoint_is_run_on_every_downstream_set_at_its_own_size(name, budget, tmp_path):
    save(tmp_path / "a", side=64, classes=10)
    save(tmp_path / "b", side=16, classes=4)
    found, chosen = official.find(tmp_path), PROFILES[budget]
    specs = experiment(name).checkpoint_runs(chosen, (0, 1), found)
    assert len({run_id(spec) for spec in specs}) == len(specs)
    from mlplib.data import catalog

    for checkpoint in found:
        for dataset in chosen.downstream:
            mine = [
                s
                for s in specs
                if checkpoint.spec in (getattr(s, "upstream", None), getattr(s, "trained", None))
                or getattr(getattr(s, "trained", None), "upstream", None) == checkpoint.spec
            ]
            mine = [s for s in mine if s.data_name() == dataset]
            kinds = [type(s) for s in mine if s.seed == 0]
            if name == "linear-probes":
                assert kinds == [ProbeSpec] * 2
            else:
                fits = catalog.find(dataset).class_count == checkpoint.classes
                assert kinds == [FineTuneSpec, EvaluateSpec] + [EvaluateSpec] * fits
            for spec in mine:
                where = spec.tested_on if isinstance(spec, EvaluateSpec) else spec.data
                side = where.resolution or catalog.find(dataset).image_size
                assert side == checkpoint.image_size
    assert {spec.seed for spec in specs} == {0, 1}


@pytest.mark.parametrize("name", TAKING)
def test_a_chapter_runs_and_shows_them(name, tmp_path, capsys):
    save(tmp_path / "official" / "small", side=16, classes=4, seed=3)
    save(tmp_path / "official" / "large", "B-2/Wi-32", side=8, classes=5)
    chapter = open_chapter(
        name,
        profile="smoke",
        seeds="0",
        runs_dir=str(tmp_path / "runs"),
        results_dir=str(tmp_path),
        device="cpu",
        official_checkpoints=str(tmp_path / "official"),
    )
    banner = str(chapter.banner())
    assert "B-1/Wi-16, 16 px, 4 classes" in banner and str(tmp_path / "official") not in banner
    records = chapter.run()
    assert all(record.status == "completed" for record in records)
    table, provenance = str(chapter.table()), str(chapter.provenance())
    for row in ("B-1/Wi-16, 16 px, 4 classes", "B-2/Wi-32, 8 px, 5 classes"):
        assert row in table
    assert ("not fine-tuned" in table) == (name == "transfer")
    for record in records:
        assert record.id in provenance
    for figure in chapter.experiment.FIGURES:
        data = chapter.experiment.FIGURES[figure].data(records).to_csv()
        assert ("official B-1/Wi-16" in data) == (figure != "accuracy-by-images"), (
            "a curve of the study's own"
        )
        assert "<svg " in str(chapter.figure(figure))
    own = [r for r in records if "checkpoint" not in r.id]
    for claim in chapter.experiment.CLAIMS:
        assert claim.judge(records) == claim.judge(own), "official checkpoints decide nothing"
    assert str(chapter.settings()) and str(chapter.verdicts())


# --------------------------------------------------------------------------- the parameter


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in TAKING])
def test_other_notebooks_refuse_the_folder(name, folder, tmp_path):
    wanted = r"official_checkpoints is for the notebooks transfer and linear-probes: leave it out here$"
    with pytest.raises(MlplibError, match=wanted):
        open_chapter(name, official_checkpoints=str(folder))
    with pytest.raises(MlplibError, match=wanted):
        execute.execute(name, {"official_checkpoints": str(folder)}, tmp_path / "out.ipynb")
    assert not (tmp_path / "out.ipynb").exists()


def test_the_overviews_refuse_it_too(folder, tmp_path):
    with pytest.raises(MlplibError, match="leave it out here"):
        open_scoreboard(official_checkpoints=str(folder))
    with pytest.raises(MlplibError, match="leave it out here"):
        execute.execute("compute", {"official_checkpoints": str(folder)}, tmp_path / "out.ipynb")


@pytest.mark.parametrize("name", TAKING)
def test_what_is_injected_is_relative_and_the_default_is_not(name, folder):
    given = execute._given(name, {"profile": "smoke", "official_checkpoints": str(folder)})
    assert given["official_checkpoints"] == os.path.relpath(folder, ROOT) and given["profile"] == "smoke"
    assert execute._given(name, {}) == {}


def engine(*config: str):
    """What Snakemake would run, as text, or the line that it refuses with."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--printshellcmds", "--nolock", "--cores", "1"]
    done = subprocess.run(
        [*command, "--config", *config], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def test_the_engine_hands_the_folder_to_the_chapters_that_take_it(folder, tmp_path):
    code, said = engine("profile=smoke", f"out={tmp_path / 'out'}", f"official_checkpoints={folder}")
    assert code == 0, said
    calls = {
        name: line for name in EXPERIMENTS for line in said.splitlines() if f"mlplib notebook {name} " in line
    }
    assert set(calls) == set(EXPERIMENTS)
    for name, line in calls.items():
        assert (f"--parameter=official_checkpoints={folder}" in line) == (name in TAKING), name


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("profle=smoke", "unknown setting 'profle' in --config: choose from profile"),
        ("out=", "nothing follows out= in --config"),  # out=$UNSET; it meant the folder book
        ("out=Makefile", "out must be the path of a folder, not 'Makefile': it is a file"),
        ("out=2026_11_30", "out must be the path of a folder, not 20261130, which Snakemake made"),
        *(
            (setting, "must be whole numbers")
            for setting in ("workers=-1", "workers=1.5", "minutes=0", "threads=x")
        ),
        ("official_checkpoints=gone", "official_checkpoints must be the path of a folder"),
    ],
)
def test_the_engine_refuses_a_setting_that_it_cannot_use(setting, words):
    code, said = engine("profile=smoke", setting)
    assert code != 0
    last = said.strip().splitlines()[-1]
    assert last.startswith("make: ") and words in last
