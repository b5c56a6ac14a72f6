"""Records in words and tables: values with intervals, settings side by side, the runs behind a number."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd

from mlplib.specs import (
    AugmentSpec,
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
from mlplib.store import Record, run_id

from .. import paper
from ..claims import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, PARTLY, REPRODUCED, Claim, Judgement
from ..evidence.criteria import criterion_dates
from ..experiments.base import DATASET_TITLES, Cell, group_by
from ..words import duration
from . import html
from .html import escape, small

NOT_PUBLISHED = "not yet published"
NO_STUDY = f"this study{small(NOT_PUBLISHED)}"
"""The heading of the study's column where nothing is published, HTML."""
VERDICT_CLASSES = {
    REPRODUCED: "reproduced",
    PARTLY: "partly",
    INCONCLUSIVE: "inconclusive",
    CONTRADICTED: "not",
    NOT_TESTED: "untested",
}


def slug(text: str) -> str:
    """``text`` as a part of a file name."""
    return text.lower().replace(", ", "-").replace(" ", "-")


# --------------------------------------------------------------------------- cells of tables


def number(value: float, unit: str) -> str:
    """A value with as many digits as its unit and size call for."""
    if unit in ("%", "million"):
        return minus(f"{value:z.1f}")
    if abs(value) >= 100:
        return minus(f"{value:,.0f}")
    return minus(f"{value:z#.3g}".rstrip(".") if unit else f"{value:z.3f}")


def paper_cell(key: tuple[str, str, str], notes: dict[str, str]) -> str:
    """The paper's value; ``notes`` collects the footnotes that it needs."""
    known = paper.value(*key)
    if known is None:
        notes["unknown"] = "n/a: the paper gives no such value, or it is not known to this study."
        return "n/a"
    text = f'<span class="mlp-number">{known.value:g} {known.unit}</span>'
    if known.source == "unchecked":
        notes["unchecked"] = f"† {paper.SOURCES['unchecked']}: recalled from the paper, not compared with it."
        text += '<sup title="unchecked transcription">†</sup>'
    return text


def measured_cell(cell: Cell | None) -> str:
    """A measured value with interval, setting and n, as HTML; a dash without one."""
    if cell is None:
        return '<span class="mlp-muted">–</span>'
    estimate = cell.estimate
    text = number(estimate.mean, cell.unit)
    if estimate.low is not None:
        text += f" [{number(estimate.low, cell.unit)}, {number(estimate.high, cell.unit)}]"
    about = [escape(cell.setting)] if cell.setting and estimate.n else []
    about += [f"n&nbsp;=&nbsp;{estimate.n}"] if estimate.n else []
    return f'<span class="mlp-number">{f"{text} {cell.unit}".rstrip()}</span>' + small("; ".join(about))


def cells_frame(keys: Iterable[tuple[str, str, str]], sides: Mapping[str, Mapping]) -> pd.DataFrame:
    """The data of a table in full precision, with the hashes of the runs.

    Args:
        keys: (item, row, column), one for each row.
        sides: prefix of column names to cells by key.
    """
    rows = []
    for key in keys:
        known = paper.value(*key)
        row = dict(zip(("item", "row", "column"), key, strict=True))
        row |= {"paper": known.value if known else None, "paper_source": known.source if known else "unknown"}
        for side, cells in sides.items():
            if key in cells:
                cell = cells[key]
                row |= {
                    f"{side}_{name}": getattr(cell.estimate, name) for name in ("mean", "low", "high", "n")
                }
                row |= {
                    f"{side}_setting": cell.setting,
                    f"{side}_runs": " ".join(map(run_hash, cell.run_ids)),
                }
                row["unit"] = cell.unit
        rows.append(row)
    return pd.DataFrame(rows)


def criterion(claim: Claim) -> str:
    """A claim's criterion, when it was written, and what was decided after a look at records, as HTML."""
    dates = [date.replace("T", " ") for date in criterion_dates(claim)]
    changed = f", last changed {dates[-1]}" if dates[1:] else ""
    written = f"First written {dates[0]}{changed} (UTC)." if dates else ""
    regime = f"The sentence is about {claim.regime}." if claim.regime else ""
    return escape(" ".join(filter(None, (regime, claim.criterion, claim.afterthought, written))))


def judgement_cells(judgement: Judgement) -> dict[str, str]:
    """The cells ``verdict`` and ``effect``. A verdict is told by its words, not by its color alone."""
    effects = escape(judgement.effect_text(";\n")).replace("\n", "<br>")
    look = VERDICT_CLASSES[judgement.verdict]
    return {
        "verdict": f'<span class="mlp-verdict {look}">{escape(judgement.words)}</span>'
        + small(minus(escape(judgement.reason()))),
        "effect": minus(effects) + small(minus(escape(judgement.note))),
    }


def chip(verdict: str, text: str, link: str = "", title: str = "") -> str:
    """A label in the color of a verdict and with its mark, as HTML; with a ``link``, one to click."""
    about = f' title="{escape(title)}"' if title else ""
    look = f'class="mlp-chip {VERDICT_CLASSES[verdict]}"{about}'
    text = escape(text)
    return f'<a {look} href="{link}">{text}</a> ' if link else f"<span {look}>{text}</span> "


def minus(text: str) -> str:
    """``text`` with real minus signs before its numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


# --------------------------------------------------------------------------- settings


def parts(spec: RunSpec) -> list[RunSpec]:
    """A run and every run named in its settings."""
    inner = (getattr(spec, field.name) for field in dataclasses.fields(spec))
    return [spec, *(part for value in inner if isinstance(value, RunSpec) for part in parts(value))]


def augmentation(spec: AugmentSpec) -> str:
    """What is augmented, in a few words."""
    parts = ["flips"] if spec.flip else []
    if spec.crop_scale:
        parts.append(f"crops of {spec.crop_scale[0]:g} to {spec.crop_scale[1]:g} of the area")
    if spec.mixup:
        parts.append(f"MixUp {spec.mixup:g}")
    return ", ".join(parts) or "none"


def _title(spec: DataSpec) -> str:
    size = f" at {spec.resolution} x {spec.resolution}" if spec.resolution else ""
    return DATASET_TITLES.get(spec.name, spec.name) + size


def _tested_on(spec: DataSpec) -> str:
    return f"{spec.held_out:,} held out" if spec.held_out else "test images"


def _model(model: ModelSpec) -> str:
    """A network's name and how it differs from the paper's network of that name."""
    usual = ModelSpec.parse(model.name)
    fields = ((field.name, getattr(model, field.name)) for field in dataclasses.fields(model))
    changes = [f"{name} {value}" for name, value in fields if value != getattr(usual, name)]
    return ", ".join([model.name, *changes]).replace("_", " ")


def _rates(spec: OptimizerSpec) -> str:
    extra = f", {spec.schedule}" if spec.schedule != "constant" else ""
    return f"{spec.lr:g}{extra}"


SEEDS = "seeds"
"""The setting that is shown as ranges, for every kind of run."""

FACTS: dict[type[RunSpec], dict[str, Callable[[RunSpec], object]]] = {
    TrainSpec: {
        "model": lambda s: _model(s.model),
        "data": lambda s: _title(s.data),
        "training images": lambda s: f"{s.data.examples:,}" if s.data.examples else "all",
        "tested on": lambda s: _tested_on(s.data),
        "pixels": lambda s: "as they are" if s.data.pixel_permutation is None else "permuted",
        "augmentation": lambda s: augmentation(s.augment),
        "epochs": lambda s: s.epochs,
        "batch size": lambda s: f"{s.batch_size:,}",
        "optimizer": lambda s: s.optimizer.name,
        "learning rate": lambda s: _rates(s.optimizer),
        "weight decay": lambda s: f"{s.optimizer.weight_decay:g}",
        "gradient clipping": lambda s: s.optimizer.clip or "none",
        "label smoothing": lambda s: f"{s.label_smoothing:g}",
        SEEDS: lambda s: s.seed,
    },
    FineTuneSpec: {
        "fine-tuning: data": lambda s: _title(s.data),
        "fine-tuning: augmentation": lambda s: augmentation(s.augment),
        "fine-tuning: epochs": lambda s: s.epochs,
        "fine-tuning: batch size": lambda s: f"{s.batch_size:,}",
        "fine-tuning: optimizer": lambda s: s.optimizer.name,
        "fine-tuning: learning rate of head, body": lambda s: f"{_rates(s.optimizer)}, {s.body_lr:g}",
        "fine-tuning: weight decay": lambda s: f"{s.optimizer.weight_decay:g}",
        "fine-tuning: label smoothing": lambda s: f"{s.label_smoothing:g}",
    },
    ProbeSpec: {
        "probe: data": lambda s: _title(s.data),
        "probe: tested on": lambda s: _tested_on(s.data),
        "probe: kind": lambda s: s.method,
        "probe: epochs": lambda s: s.epochs if s.method == "linear" else "closed form",
        "probe: batch size": lambda s: f"{s.batch_size:,}" if s.method == "linear" else "closed form",
        "probe: optimizer": lambda s: s.optimizer.name if s.method == "linear" else "closed form",
        "probe: learning rate": lambda s: f"{s.optimizer.lr:g}" if s.method == "linear" else "closed form",
    },
    EvaluateSpec: {
        "evaluation: random views": lambda s: s.crops,
        "evaluation: crops": lambda s: augmentation(s.augment) if s.crops else "none",
    },
    TimingSpec: {
        "timing: network": lambda s: _model(s.model),
        "timing: images": lambda s: f"{s.image_size} x {s.image_size}, random",
        "timing: classes": lambda s: f"{s.classes:,}",
        "timing: batch sizes": lambda s: ", ".join(f"{size:,}" for size in s.batch_sizes),
        "timing: time box": lambda s: f"{s.seconds:g} s",
        f"timing: {SEEDS}": lambda s: s.seed,
    },
}
"""The settings that a chapter shows, by kind of run and by displayed name."""

NO_FACT = "–"


def facts(specs: Sequence[RunSpec]) -> dict[str, str]:
    """Each setting's distinct values over some runs and the runs named in them; a dash if it has none."""
    runs = [part for spec in specs for part in parts(spec)]
    found = {}
    for kind, kind_facts in FACTS.items():
        of_kind = list(dict.fromkeys(run for run in runs if isinstance(run, kind)))
        for name, fact in kind_facts.items():
            found[name] = _values(name, (fact(run) for run in of_kind)) or NO_FACT
    return found


def _values(name: str, values: Iterable[object]) -> str:
    """The distinct values of a setting; for three or more consecutive seeds, the first and the last."""
    if not name.endswith(SEEDS):
        return "; ".join(dict.fromkeys(map(str, values)))
    ranges = []
    for _, found in itertools.groupby(enumerate(sorted(set(values))), key=lambda pair: pair[1] - pair[0]):
        seeds = [seed for _, seed in found]
        ranges.append(f"{seeds[0]}–{seeds[-1]}" if len(seeds) > 2 else "; ".join(map(str, seeds)))
    return "; ".join(ranges)


# --------------------------------------------------------------------------- provenance


def seconds(record: Record) -> float:
    """How long a run computed, 0 if its record does not say."""
    return record.compute.get("seconds", 0.0)


def training_time(records: Iterable[Record]) -> str:
    """How long runs computed, all together."""
    return duration(math.fsum(map(seconds, records)))


def diverged(records: Iterable[Record]) -> str:
    """How many runs diverged, as ``2 diverged``; empty if none did."""
    number = sum(record.status != "completed" for record in records)
    return f"{number} diverged" if number else ""


def run_hash(run_id: str) -> str:
    """The hash at the end of a run's id, which is unique to the run."""
    return run_id.rpartition("-")[2]


def run_anchor(side: str, run_id: str) -> str:
    """The id of the page element where :func:`runs_table` describes a run: the side and the run's hash."""
    return f"{slug(side)}-{run_hash(run_id)}"


SEED_IN_ID = r"-(s\d+)(?=-|$)"
"""The seed in a run's name, which repeats it in the name of the run that it reads."""


MOST_LINES = 20
"""Most lines of links per number. Only laws are based on more, and each of their runs has its own number."""


def numbers_table(side: str, cells: Sequence[Cell]) -> str:
    """Every number with links to its runs in :func:`runs_table`, as HTML; of numbers based on the same runs,
    only the first has the links.
    """
    rows, first = [], {}
    for cell in cells:
        name, value = escape(f"{cell.row}, {cell.column}"), number(cell.estimate.mean, cell.unit)
        if cell.run_ids in first:
            lines = [f"those of {first[cell.run_ids]}"]
        elif len(lines := _links(side, cell.run_ids)) > MOST_LINES:
            lines = [f"{len(cell.run_ids)} runs, listed in the data file (CSV) of {escape(cell.item)}"]
        rows.append(
            {
                "number": name,
                "value": f'<span class="mlp-number">{value} {cell.unit}</span>',
                "runs": "<br>".join(lines),
            }
        )
        first.setdefault(cell.run_ids, name)
    return html.table(rows, f"<b>{side}</b>: the runs behind each number", "number")


def _links(side: str, run_ids: Iterable[str]) -> list[str]:
    """Links to runs, one line for those whose names differ only in the seed: a name, then other seeds. A
    single line needs no name, since its number has one.
    """
    groups = group_by(run_ids, lambda id: re.sub(SEED_IN_ID, "", id.rpartition("-")[0])).values()
    lines = []
    for group in groups:
        texts = {id: seed_in(id) or run_hash(id) for id in group}
        if len(groups) > 1:
            texts[group[0]] = group[0].rpartition("-")[0]
        links = (f'<a href="#{run_anchor(side, id)}">{text}</a>' for id, text in texts.items())
        lines.append(", ".join(links))
    return lines


def seed_in(run_id: str) -> str:
    """The seed in the name of a run, ``s3``; empty where nothing is drawn."""
    found = re.search(SEED_IN_ID, run_id)
    return found[1] if found else ""


def runs_table(side: str, records: Sequence[Record]) -> str:
    """How runs were made and how fast they were, as HTML; those that differ only in their seed share a
    row. Settings shared by all rows, or by all of one kind of run, are listed once, above the table.
    """
    rows, ids = [], {record.spec: record.id for record in records}
    groups = group_by(records, lambda record: (_but_for_seed(record.spec), _made(record)))
    specs = {key: [record.spec for record in group] for key, group in groups.items()}
    settings = {key: _settings(alike) for key, alike in specs.items()}
    once, of_all = {}, _in_common([dict(made) for _, made in groups])
    for keys in group_by(groups, lambda key: type(specs[key][0])).values():
        once |= _in_common([settings[key] for key in keys])
    for key, group in groups.items():
        own = {name: value for name, value in settings[key].items() if name not in once}
        line = escape(_settings_line(specs[key], own, ids))
        compute = [record.compute for record in group]
        row = {
            "run": _names(side, [record.id for record in group]),
            "settings": f'<span class="mlp-wide">{line}</span>',
            "time": _span(compute, "seconds", duration),
            "images/s": _span(compute, "images_per_second", "{:,.0f}".format),
            "of matmul rate": _span(compute, "matmul_fraction", lambda share: f"{100 * share:.2g} %"),
        }
        _, made = key
        rows.append(row | {name: value for name, value in made if name not in of_all})
    shared = "Those that differ in their seed alone share a row, under the hashes that end their ids"
    common = {name: escape(value) for name, value in once.items()} | of_all
    alike = "; ".join(f"{name}: {value}" for name, value in common.items())
    first = f"<p><b>{side}</b>, what the runs have in common: {alike}.</p>" if common else ""
    return first + html.table(rows, f"<b>{side}</b>: the runs. {shared}", "run")


def _in_common(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The items that several rows all share; none for a single row."""
    if len(rows) < 2:
        return {}
    return {n: value for n, value in rows[0].items() if all(row.get(n) == value for row in rows)}


def _names(side: str, run_ids: Sequence[str]) -> str:
    """Ids of runs that differ only in their seed, as link targets; for all but the first, seed and hash."""
    first, *others = run_ids
    text = f'<code id="{run_anchor(side, first)}">{escape(first)}</code>'
    names = {id: f"{seed_in(id)} {run_hash(id)}".strip() for id in others}
    codes = "".join(f'<br><code id="{run_anchor(side, id)}">{name}</code>' for id, name in names.items())
    return text + (f'<span class="mlp-number">{codes}</span>' if codes else "")


def _but_for_seed(spec: RunSpec) -> tuple[RunSpec, tuple]:
    """A key that is equal for runs that differ only in their seed and in what follows from it: the images
    that they draw and the runs that they read.
    """
    draws = [(each.data.draw, each.seed) for each in parts(spec) if getattr(each, "data", None)]
    return _seedless(spec), tuple(draw - seed if draw else None for draw, seed in draws)


def _seedless(spec: RunSpec) -> RunSpec:
    """A run and those that it reads with seed 0 and the first draw of images."""
    changes = {}
    for name in (field.name for field in dataclasses.fields(spec)):
        value = getattr(spec, name)
        if name == "seed":
            changes[name] = 0
        elif isinstance(value, RunSpec):
            changes[name] = _seedless(value)
        elif isinstance(value, DataSpec):
            changes[name] = dataclasses.replace(value, draw=0)
    return dataclasses.replace(spec, **changes)


def _made(record: Record) -> tuple[tuple[str, str], ...]:
    """How a record was made: columns and their values (HTML)."""
    found = record.environment
    commit = f"<code>{(found.get('commit') or 'unknown')[:10]}</code>"
    return (
        ("ended", escape(record.status)),
        ("device", escape(f"{found['device']}, {found.get('precision', 'unknown')}")),
        ("torch", escape(str(found.get("torch", "unknown")))),
        ("commit", commit + (" + changes" if found.get("dirty") else "")),
    )


def _span(found: Iterable[Mapping[str, float]], name: str, form: Callable[[float], str]) -> str:
    """The smallest and the largest value of that name; a dash without any."""
    values = sorted(each[name] for each in found if each.get(name))
    return " to ".join(dict.fromkeys(map(form, (values[0], values[-1])))) if values else NO_FACT


def _settings(specs: Sequence[RunSpec]) -> dict[str, str]:
    """The settings of runs that differ only in their seed, without those at usual values."""
    hidden = {"weight decay": "0", "gradient clipping": "none"}
    hidden |= dict.fromkeys(("tested on", "probe: tested on"), "test images")
    known = {name: _values(name, map(fact, specs)) for name, fact in FACTS.get(type(specs[0]), {}).items()}
    return {name: value for name, value in known.items() if hidden.get(name) != value}


def _settings_line(specs: Sequence[RunSpec], settings: Mapping[str, str], ids: Mapping[RunSpec, str]) -> str:
    """Some settings of runs that differ only in their seed, in one line with the runs that they read.

    ``ids``: of published runs, on the data and by the version that made them.
    """
    spec = specs[0]
    read = getattr(spec, "upstream", None) or getattr(spec, "trained", None)
    others = " and of the other seeds" if len(specs) > 1 else ""
    of = f"of {ids.get(read) or run_id(read)}{others}" if read else "of the pixels"
    if isinstance(spec, FilterSpec):
        return f"first layer, {spec.at}, {of}"
    line = [f"{name}: {value}" for name, value in settings.items()]
    moment = f" after epoch {spec.epoch}" if getattr(spec, "epoch", None) is not None else ""
    reads = [f"{of}{moment}"] if read or isinstance(spec, ProbeSpec) else []
    return "; ".join(line + reads)
