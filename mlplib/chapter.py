"""What a chapter's cells call: the banner, the runs, the table, the figures, the verdicts, and where the numbers come from.

Everything that a chapter shows of results is made here from records, so no number is typed into a notebook. "This
execution" are the runs of the profile and seeds in the notebook's parameters; "this study" are the published records.
"""

from __future__ import annotations

import inspect
import os
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import html, machine, paper, planning
from .claims import NOT_REPRODUCED, NOT_TESTED, PARTLY, REPRODUCED, Claim, decide
from .errors import MlplibError
from .execution import Executor
from .experiments import experiment
from .experiments.base import DATASET_TITLES, Cell, Figure
from .html import Html, escape, small
from .parameters import names_set_by, parse, refuse_unknown
from .profiles import PROFILES, Profile
from .published import Published, published
from .runs import Record, RunStore
from .specs import AugmentSpec, RunSpec, TrainSpec

ROOT = Path(__file__).resolve().parent.parent
LINE_INTERVAL_S = 5.0
NOT_PUBLISHED = "not yet published"
VERDICT_CLASSES = {REPRODUCED: "reproduced", PARTLY: "partly", NOT_REPRODUCED: "not", NOT_TESTED: "untested"}


def open_chapter(
    name: str,
    *,
    profile: str = "laptop",
    seeds=None,
    runs_dir: str | None = None,
    results_dir: str | None = None,
    device: str = "auto",
) -> Chapter:
    """The first call of a chapter: check the notebook's parameters, find runs and published records. Trains nothing.

    Args:
        name: the experiment's.
        profile, seeds, runs_dir, results_dir, device: see :class:`mlplib.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible; a notebook shows this and every later one as a single line.
    """
    _errors_in_one_line()
    refuse_unknown(names_set_by(_executed_cells()))
    given = dict(profile=profile, seeds=seeds, runs_dir=runs_dir, results_dir=results_dir, device=device)
    checked = parse(given)
    found = PROFILES[checked.profile]
    return Chapter(
        name=name,
        experiment=experiment(name),
        profile=found,
        seeds=checked.seeds or found.seeds,
        store=RunStore(checked.runs_dir or _usual_runs()),
        device=machine.pick_device(checked.device),
        study=published(name, checked.results_dir),
    )


def _usual_runs() -> str | None:
    """The source tree's ``runs``, wherever the notebook was started; None lets the environment or the folder decide."""
    in_source_tree = (ROOT / "notebooks").is_dir()
    return None if os.environ.get("MLPLIB_RUNS") or not in_source_tree else os.path.relpath(ROOT / "runs")


def _executed_cells() -> list[str]:
    """The sources of the cells executed so far; none outside IPython."""
    from IPython import get_ipython

    shell = get_ipython()
    return [] if shell is None else list(shell.user_ns.get("In", ()))


def _errors_in_one_line() -> None:
    """Let IPython show the library's own errors without a traceback; the cell still fails."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return

    def show(shell, kind, error, traceback, tb_offset=None):
        line = [f"{kind.__name__}: {error}"]
        shell._showtraceback(kind, error, line)
        return line

    shell.set_custom_exc((MlplibError,), show)


def source(*objects: Callable):
    """The source of functions and classes, shown as code."""
    from IPython.display import Markdown

    return Markdown("\n\n".join(f"```python\n{inspect.getsource(thing).rstrip()}\n```" for thing in objects))


@dataclass
class Chapter:
    """One experiment at one profile: what it does, what came out, and what that says of the paper.

    ``records`` is empty until :meth:`run`. Methods give :class:`mlplib.html.Html` for a cell to end with.
    """

    name: str
    experiment: types.ModuleType
    profile: Profile
    seeds: tuple[int, ...]
    store: RunStore
    device: torch.device
    study: Published | None
    records: list[Record] = field(default_factory=list)

    @property
    def specs(self) -> list[RunSpec]:
        """Every run of this execution."""
        return self.experiment.runs(self.profile, self.seeds)

    # ------------------------------------------------------------------ before the runs

    def banner(self) -> Html:
        """What this execution is going to do, where, and how long it will take."""
        plan = planning.plan(self.specs, self.store, self.device)
        precision = machine.pick_precision("auto", self.device)
        command = f"mlplib notebook {self.name} --profile {self.profile.name}"
        entries = {
            "Covers": escape(", ".join(self.experiment.ITEMS)),
            "Profile": f"<code>{self.profile.name}</code>: {escape(self.profile.about)}",
            "Seeds": escape(", ".join(map(str, self.seeds))),
            "Device": f"{escape(machine.device_name(self.device))}, {precision}",
            "Runs": f"{len(plan.runs)}, {_what_is_left(plan)}",
            "Do it again": f"<code>{escape(command)}</code>",
        }
        return Html(f"<style>{html.STYLE}</style>" + html.box(html.definitions(entries)))

    def definition(self):
        """The source of the experiment's ``runs`` and of what it calls beside it."""
        return source(*_with_callees(self.experiment.runs))

    # ------------------------------------------------------------------ the runs

    def run(self) -> list[Record]:
        """Do every run that has no record yet, and give all records. Shows how far it is, and in the end what it cost.

        Raises:
            Interrupted: stopped on request; the same call goes on from there.
        """
        from IPython.display import clear_output, display

        missing = planning.plan(self.specs, self.store, self.device).missing
        executor = Executor(self.store, device=self.device, say=_replace_line)
        for number, spec in enumerate(missing, start=1):
            executor.progress = _counted(number, len(missing))
            executor.record(spec)
        self.records = executor.records(self.specs)
        if missing:
            clear_output()
        display(Html(self._what_ran(len(missing))))
        return self.records

    def _what_ran(self, new: int) -> str:
        runs = planning.with_upstream(self.specs)
        records = [record for record in map(self.store.find, runs.values()) if record is not None]
        seconds = sum(record.compute.get("seconds", 0) for record in records)
        text = (
            f"{_count(len(records), 'run')}: {len(records) - new} found, {new} done now. "
            f"Training took {duration(seconds)} in all, on {escape(_devices(records))}."
        )
        lost = [record for record in self.records if record.status != "completed"]
        if not lost:
            return html.box(f"<p>{text}</p>")
        names = ", ".join(f"<code>{escape(record.id)}</code>" for record in lost)
        warning = f"{_count(len(lost), 'run')} diverged and is missing below (the loss stopped being finite): {names}."
        return html.box(f"<p>{text}</p><p>{warning}</p>", warning=True)

    # ------------------------------------------------------------------ tables

    def cells(self) -> list[Cell]:
        """This execution's cells of the experiment's tables."""
        return self.experiment.summary(self.records, self.profile)

    def study_cells(self) -> list[Cell]:
        """The published study's cells."""
        return self.experiment.summary(self.study.records, self.study.profile) if self.study else []

    def table(self, item: str | None = None) -> Html:
        """The paper's values, this study's and this execution's side by side, for one item or all of them."""
        ours, study = (
            {(c.item, c.row, c.column): c for c in cells if item in (None, c.item)}
            for cells in (self.cells(), self.study_cells())
        )
        keys = list(dict.fromkeys([*ours, *study]))
        if not keys:
            return Html(html.box(f"<p>No run of {escape(item or self.name)} ended with finite numbers.</p>", warning=True))
        measured = {(key[0], key[2]) for key in keys}
        keys += [key for key in paper.values() if (key[0], key[2]) in measured and key not in keys]
        counted = all(cell.estimate.n == 0 for cell in ours.values())
        rows, notes = [], {}
        for key in keys:
            row = {"": escape(key[1]), " ": escape(key[2]), "paper": _paper_cell(key, notes)}
            if counted:
                row["counted by code"] = _measured_cell(ours.get(key), "not counted")
            else:
                row[f"this study{small(self._study_label())}"] = _measured_cell(
                    study.get(key), "not run" if self.study else NOT_PUBLISHED
                )
                row[f"this execution{small(self._label())}"] = _measured_cell(ours.get(key), "not run")
            rows.append(row)
        caption = f"<b>{escape(item or ', '.join(self.experiment.ITEMS))}</b>"
        if not counted:
            caption += ". Means over seeds, with 95 % intervals in brackets"
        text = html.table(rows, caption, row_headers=("", " "))
        text += "".join(f"<p>{small(note)}</p>" for note in notes.values())
        frame = _cells_frame(keys, ours, study)
        return Html(text + f"<p>{small(html.csv_link(frame, f'{self.name}-{_slug(item)}.csv'))}</p>")

    def _label(self) -> str:
        return f"{self.profile.name}, {escape(_devices(self.records))}" if self.records else self.profile.name

    def _study_label(self) -> str:
        return f"{self.study.profile.name}, {escape(self.study.devices)}" if self.study else ""

    # ------------------------------------------------------------------ figures

    def figure(self, name: str) -> Html:
        """A figure of the experiment, from this execution's records and from the published ones."""
        drawn = self.experiment.FIGURES[name]
        where = f"{self.profile.name}, {_count(len(self.seeds), 'seed')}"
        if self.study and self._same_as_study():
            parts = [self._draw(name, drawn, self.records, self.store.root, f"This study and this execution ({where})")]
            return Html(html.figures(parts))
        parts = [self._draw(name, drawn, self.records, self.store.root, f"This execution ({where})")]
        if self.study:
            label = f"This study ({self._study_label()})"
            parts.append(self._draw(f"{name}-study", drawn, self.study.records, self.study.artifacts, label))
        return Html(html.figures(parts))

    def _draw(self, name: str, drawn: Figure, records: Sequence[Record], folder: Path, label: str) -> str:
        frame = drawn.data(records)
        try:
            image = html.svg_image(drawn.draw(frame, records, folder), f"{label}: {drawn.alt}")
        except MlplibError as error:  # a published artifact that is not there must not end the chapter
            return html.box(f"<p>{label}: {escape(error)}</p>", warning=True)
        link = html.csv_link(frame, f"{self.name}-{name}.csv")
        return html.figure(image, f"<b>{label}.</b> {escape(drawn.caption)} {link}.")

    def _same_as_study(self) -> bool:
        """Whether the published records are this execution's: the same runs with the same results."""
        ours, study = ({r.id: r.metrics for r in records} for records in (self.records, self.study.records))
        return ours == study

    # ------------------------------------------------------------------ verdicts

    def verdicts(self) -> Html:
        """What the records say of each claim of this chapter."""
        return Html("".join(self._verdict(claim) for claim in self.experiment.CLAIMS))

    def _verdict(self, claim: Claim) -> str:
        rows = []
        if self.study:
            judged = decide(claim, self.study.records, self.study.profile.name)
            rows.append(_judgement_row(f"this study{small(self._study_label())}", judged))
        else:
            rows.append({" ": "this study", "verdict": NOT_PUBLISHED, "effect": "–", "note": ""})
        judged = decide(claim, self.records, self.profile.name)
        rows.append(_judgement_row(f"this execution{small(self._label())}", judged))
        caption = (
            f"<b>{claim.id}. {escape(claim.sentence)}</b> ({escape(claim.item)})"
            f"{small('Criterion, fixed before the runs: ' + escape(claim.criterion))}"
        )
        return html.table(rows, caption, row_headers=(" ",))

    # ------------------------------------------------------------------ settings and provenance

    def settings(self) -> Html:
        """The settings of this execution and of the study beside those of profile ``paper``; what differs from it is bold."""
        as_paper = self.experiment.runs(PROFILES["paper"], PROFILES["paper"].seeds)
        columns = {"as the paper": _facts(as_paper)}
        study = f"this study{small(self._study_label())}"
        columns[study] = _facts([r.spec for r in self.study.records]) if self.study else {}
        columns[f"this execution{small(self.profile.name)}"] = _facts(self.specs)
        rows = []
        for fact, wanted in columns["as the paper"].items():
            row = {" ": fact}
            for column, facts in columns.items():
                value = facts.get(fact, NOT_PUBLISHED)
                row[column] = escape(value) if value in (wanted, NOT_PUBLISHED) else f"<b>{escape(value)}</b>"
            rows.append(row)
        caption = "<b>Settings.</b> Bold: other than in profile <code>paper</code>"
        return Html(html.table(rows, caption, row_headers=(" ",)))

    def provenance(self) -> Html:
        """Which runs every number comes from, and how each run was made; folded."""
        parts = []
        sides = [("This execution", self.cells(), self.records)]
        if self.study:
            sides.append(("This study", self.study_cells(), self.study.records))
        for side, cells, records in sides:
            numbers = [cell for cell in cells if cell.run_ids]
            records = [*records, *self._upstream(records)]
            if numbers:
                parts.append(_numbers_table(side, numbers))
            if records:
                parts.append(_runs_table(side, records))
        return Html(html.fold("Where every number comes from", "".join(parts)))

    def _upstream(self, records: Sequence[Record]) -> list[Record]:
        """The runs that ``records`` read from, as far as the store has them."""
        known = {record.id for record in records}
        runs = planning.with_upstream(record.spec for record in records)
        found = (self.store.find(spec) for id, spec in runs.items() if id not in known)
        return [record for record in found if record is not None]

    def show(self, figure, caption: str, alt: str) -> Html:
        """A matplotlib figure of one's own, with what every figure needs: a caption and a text for who cannot see it."""
        return Html(html.figures([html.figure(html.svg_image(figure, alt), escape(caption))]))


# --------------------------------------------------------------------------- progress


def _replace_line(text: str) -> None:
    """Print in the place of what the cell printed before; an executed notebook keeps the last only."""
    from IPython.display import clear_output

    clear_output(wait=True)
    print(text, flush=True)


def _counted(number: int, total: int):
    """A progress factory that says which of the runs is under way."""

    @contextmanager
    def progress(steps: int | None, label: str) -> Iterator[_Line]:
        yield _Line(steps, f"{number} of {total}: {label}")

    return progress


class _Line:
    """A line every few seconds."""

    def __init__(self, steps: int | None, label: str):
        self.steps, self.label, self.done = steps, label, 0
        self.start = self.last = time.monotonic()
        _replace_line(label)

    def advance(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last >= LINE_INTERVAL_S:
            self.last = now
            share = f"{100 * self.done / self.steps:.0f} %" if self.steps else f"{self.done} done"
            _replace_line(f"{self.label}: {share}, {duration(now - self.start)}")


# --------------------------------------------------------------------------- words


def duration(seconds: float) -> str:
    """A time as a person says it: ``45 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _slug(text: str | None) -> str:
    return (text or "table").lower().replace(", ", "-").replace(" ", "-")


def _devices(records: Sequence[Record]) -> str:
    return ", ".join(sorted({record.environment["device"] for record in records}))


def _what_is_left(plan: planning.Plan) -> str:
    if not plan.missing:
        return "all of them done already"
    return f"{plan.cached} of them done already; the rest will take about {duration(plan.seconds)}"


# --------------------------------------------------------------------------- cells of tables


def number(value: float, unit: str) -> str:
    """A value with as many digits as its unit deserves."""
    return f"{value:.1f}" if unit in ("%", "million") else f"{value:.3f}"


def _paper_cell(key: tuple[str, str, str], notes: dict[str, str]) -> str:
    """The paper's value; ``notes`` collects the footnotes that it needs."""
    known = paper.value(*key)
    if known is None:
        notes["unknown"] = "n/a: the paper gives no such value, or it is not known to this study."
        return "n/a"
    text = f"{known.value:g} {known.unit}"
    if known.source == "unchecked":
        notes["unchecked"] = f"† {paper.SOURCES['unchecked']}: recalled from the paper's table and not compared with it again."
        text += '<sup title="unchecked transcription">†</sup>'
    return text


def _measured_cell(cell: Cell | None, absent: str) -> str:
    if cell is None:
        return f'<span class="mlp-absent">{absent}</span>'
    estimate = cell.estimate
    text = number(estimate.mean, cell.unit)
    if estimate.low is not None:
        text += f" [{number(estimate.low, cell.unit)}, {number(estimate.high, cell.unit)}]"
    about = [escape(cell.setting)] if cell.setting and estimate.n else []
    about += [f"n = {estimate.n}"] if estimate.n else []
    return f"{text} {cell.unit}".rstrip() + small("; ".join(about))


def _cells_frame(keys, ours: dict, study: dict):
    """Everything a table shows, in full precision."""
    import pandas as pd

    rows = []
    for key in keys:
        known = paper.value(*key)
        row = dict(zip(("item", "row", "column"), key, strict=True))
        row |= {"paper": known.value if known else None, "paper_source": known.source if known else "unknown"}
        for side, cells in (("study", study), ("execution", ours)):
            cell = cells.get(key)
            if cell is not None:
                estimate = cell.estimate
                row |= {f"{side}_{name}": getattr(estimate, name) for name in ("mean", "low", "high", "n")}
                row |= {f"{side}_setting": cell.setting, f"{side}_runs": " ".join(cell.run_ids), "unit": cell.unit}
        rows.append(row)
    return pd.DataFrame(rows)


def verdict_html(verdict: str) -> str:
    """A verdict, told apart by its word first and its color second."""
    return f'<span class="mlp-verdict {VERDICT_CLASSES[verdict]}">{escape(verdict)}</span>'


def _judgement_row(side: str, judgement) -> dict[str, str]:
    return {
        " ": side,
        "verdict": verdict_html(judgement.verdict),
        "effect": escape(judgement.effect_text()),
        "note": escape(judgement.note),
    }


# --------------------------------------------------------------------------- settings


def _trained(spec: RunSpec) -> TrainSpec:
    return spec if isinstance(spec, TrainSpec) else spec.upstream


def augmentation(spec: AugmentSpec) -> str:
    """What is augmented, in a few words."""
    parts = ["flips"] if spec.flip else []
    if spec.crop_scale:
        parts.append(f"crops of {spec.crop_scale[0]:g} to {spec.crop_scale[1]:g} of the area")
    if spec.mixup:
        parts.append(f"MixUp {spec.mixup:g}")
    return ", ".join(parts) or "none"


FACTS: dict[str, Callable[[TrainSpec], object]] = {
    "model": lambda s: s.model.name,
    "data": lambda s: DATASET_TITLES.get(s.data.name, s.data.name),
    "training images": lambda s: f"{s.data.examples:,}" if s.data.examples else "all",
    "pixels": lambda s: "as they are" if s.data.pixel_permutation is None else "permuted",
    "augmentation": lambda s: augmentation(s.augment),
    "epochs": lambda s: s.epochs,
    "batch size": lambda s: f"{s.batch_size:,}",
    "optimizer": lambda s: s.optimizer.name,
    "learning rate": lambda s: f"{s.optimizer.lr:g}",
    "weight decay": lambda s: f"{s.optimizer.weight_decay:g}",
    "label smoothing": lambda s: f"{s.label_smoothing:g}",
    "seeds": lambda s: s.seed,
}
"""The settings of a training run that a chapter shows, by the name it shows them under."""


def _facts(specs: Sequence[RunSpec]) -> dict[str, str]:
    """Each setting's different values over some runs."""
    runs = [_trained(spec) for spec in specs]
    return {name: "; ".join(dict.fromkeys(str(fact(run)) for run in runs)) for name, fact in FACTS.items()}


def _with_callees(function: Callable) -> list[Callable]:
    """A function and the functions of the experiments that it calls, each once."""
    found, todo = [], [function]
    while todo:
        current = todo.pop(0)
        if current in found:
            continue
        found.append(current)
        codes = [current.__code__]
        for code in codes:
            codes += [const for const in code.co_consts if isinstance(const, types.CodeType)]
            called = (current.__globals__.get(name) for name in code.co_names)
            todo += [f for f in called if inspect.isfunction(f) and f.__module__.startswith("mlplib.experiments")]
    return found


# --------------------------------------------------------------------------- provenance


def _anchor(side: str, run_id: str) -> str:
    return f"{_slug(side)}-{run_id}"


def _numbers_table(side: str, cells: Sequence[Cell]) -> str:
    rows = [
        {
            "number": escape(f"{cell.row}, {cell.column}"),
            "value": f"{number(cell.estimate.mean, cell.unit)} {cell.unit}",
            "runs": "<br>".join(f'<a href="#{_anchor(side, id)}"><code>{id}</code></a>' for id in cell.run_ids),
        }
        for cell in cells
    ]
    return html.table(rows, f"<b>{side}</b>: the runs behind each number", row_headers=("number",))


def _runs_table(side: str, records: Sequence[Record]) -> str:
    rows = []
    for record in records:
        compute, environment = record.compute, record.environment
        commit = (environment.get("commit") or "unknown")[:10]
        rows.append(
            {
                "run": f'<code id="{_anchor(side, record.id)}">{escape(record.id)}</code>',
                "settings": escape(_settings_line(record.spec)),
                "ended": escape(record.status),
                "training": duration(compute["seconds"]) if "seconds" in compute else "–",
                "images/s": f"{compute['images_per_second']:,.0f}" if compute.get("images_per_second") else "–",
                "of matmul rate": f"{100 * compute['matmul_fraction']:.0f} %" if compute.get("matmul_fraction") else "–",
                "device": escape(f"{environment['device']}, {environment['precision']}"),
                "torch": escape(environment["torch"]),
                "commit": f"<code>{commit}</code>" + (" + changes" if environment.get("dirty") else ""),
            }
        )
    return html.table(rows, f"<b>{side}</b>: the runs", row_headers=("run",))


def _settings_line(spec: RunSpec) -> str:
    if not isinstance(spec, TrainSpec):
        return f"first layer, {spec.at}, of {spec.upstream.id}"
    hidden = ("weight decay",) if not spec.optimizer.weight_decay else ()
    return "; ".join(f"{name}: {fact(spec)}" for name, fact in FACTS.items() if name not in hidden)
