"""What a chapter's cells call: banner, runs, table, figures, verdicts, and where the numbers come from.

Everything that a chapter shows of results is made here from records, so no number is typed into a notebook.
"This execution" are the runs of the profile and seeds in the notebook's parameters; "this study" are the
published records.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlplib import machine, official, planning
from mlplib.errors import MlplibError
from mlplib.executor import Executor
from mlplib.specs import RunSpec
from mlplib.store import Record, RunStore

from .. import paper
from ..claims import Claim, decide
from ..evidence.records import ExperimentRecords, shown
from ..experiments import experiment
from ..experiments.base import Cell, Figure
from ..profiles import PROFILES, Profile
from . import html
from .html import Html, escape, small
from .parameters import of_notebook
from .session import Session, counted, open_session, replace_line
from .tables import (
    NO_FACT,
    NOT_PUBLISHED,
    cells_frame,
    count,
    devices,
    duration,
    facts,
    judgement_cells,
    measured_cell,
    numbers_table,
    paper_cell,
    runs_table,
    slug,
    what_is_left,
)


def open_chapter(name: str, **parameters) -> Chapter:
    """The first call of a chapter: check the notebook's parameters, find published records. Trains nothing.

    Args:
        name: the experiment's.
        parameters: the notebook's, see :class:`mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible; a notebook shows this and every later one as a
        single line.
    """
    session = open_session(parameters, of_notebook(name))
    return Chapter(name, experiment(name), session, shown(name, session.results_dir))


def source(*objects: Callable):
    """The source of functions and classes, shown as code."""
    from IPython.display import Markdown

    return Markdown("\n\n".join(f"```python\n{inspect.getsource(thing).rstrip()}\n```" for thing in objects))


@dataclass
class Chapter:
    """One experiment at one profile: what it does, what came out, and what that says of the paper.

    ``records`` is empty until :meth:`run`. ``studies``: the published records to show beside it, the best
    profile first; several where the best is incomplete, see :func:`mlpstudy.evidence.records.shown`.
    Methods give :class:`mlpstudy.book.html.Html` for a cell to end with.
    """

    name: str
    experiment: types.ModuleType
    session: Session
    studies: list[ExperimentRecords]
    records: list[Record] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        """What this execution may spend."""
        return self.session.profile

    @property
    def store(self) -> RunStore:
        """Where this execution's runs are."""
        return self.session.store

    @property
    def specs(self) -> list[RunSpec]:
        """Every run of this execution."""
        runs = self.experiment.runs(self.profile, self.session.seeds)
        found = self.session.checkpoints
        if found:
            runs = [*runs, *self.experiment.checkpoint_runs(self.profile, self.session.seeds, found)]
        return runs

    # ------------------------------------------------------------------ before the runs

    def banner(self) -> Html:
        """What this execution is going to do, where, and how long it will take."""
        rest, total = self._rest(), len(planning.with_upstream(self.specs))
        precision = machine.pick_precision("auto", self.session.device)
        command = f"mlplib notebook {self.name} --profile {self.profile.name}"
        entries = {
            "Covers": escape(", ".join(self.experiment.ITEMS)),
            "Profile": f"<code>{self.profile.name}</code>: {escape(self.profile.about)}",
            "Seeds": escape(", ".join(map(str, self.session.seeds))),
            "Device": f"{escape(machine.device_name(self.session.device))}, {precision}",
            "Runs": f"{total}, {what_is_left(rest, total)}",
            "Do it again": f"<code>{escape(command)}</code>",
        }
        if self.session.checkpoints:
            names = [f"{c.spec.name} (SHA-256 {c.spec.sha256[:12]}…)" for c in self.session.checkpoints]
            entries["Official weights"] = escape("; ".join(names))
        return Html(f"<style>{html.STYLE}</style>" + html.box(html.definitions(entries)))

    def definition(self):
        """The source of the experiment's ``runs`` and of what it calls beside it."""
        return source(*_with_callees(self.experiment.runs))

    # ------------------------------------------------------------------ the runs

    def run(self) -> list[Record]:
        """Do every run that has no record yet, and give all records. Shows how far it is, then what it cost.

        Raises:
            Interrupted: stopped on request; the same call goes on from there.
        """
        from IPython.display import clear_output, display

        missing = self._rest().missing
        executor = Executor(
            self.store,
            device=self.session.device,
            log=replace_line,
            official=official.files(self.session.checkpoints),
        )
        for number, spec in enumerate(missing, start=1):
            executor.how = replace(executor.how, progress=counted(number, len(missing)))
            executor.record(spec)
        self.records = executor.records(self.specs)
        if missing:
            clear_output()
        display(Html(self._what_ran(len(missing))))
        return self.records

    def _rest(self) -> planning.Plan:
        """The runs without a record, with what they in turn need."""
        return planning.plan(self.specs, self.store, self.session.device)

    def _what_ran(self, new: int) -> str:
        runs = planning.with_upstream(self.specs)
        records = [record for record in map(self.store.find, runs.values()) if record is not None]
        seconds = sum(record.compute.get("seconds", 0) for record in records)
        text = (
            f"{count(len(records), 'run')}: {len(records) - new} found, {new} done now. "
            f"Training took {duration(seconds)} in all, on {escape(devices(records))}."
        )
        lost = [record for record in self.records if record.status != "completed"]
        if not lost:
            return html.box(f"<p>{text}</p>")
        names = ", ".join(f"<code>{escape(record.id)}</code>" for record in lost)
        warning = (
            f"{count(len(lost), 'run')} diverged (a loss that is not finite) and is left out below: {names}."
        )
        return html.box(f"<p>{text}</p><p>{warning}</p>", warning=True)

    # ------------------------------------------------------------------ tables

    def cells(self) -> list[Cell]:
        """This execution's cells of the experiment's tables."""
        return self.experiment.summary(self.records, self.profile)

    def study_cells(self, study: ExperimentRecords) -> list[Cell]:
        """The cells of published records."""
        return self.experiment.summary(study.records, study.profile)

    def table(self, item: str | None = None) -> Html:
        """The paper's values, this study's and this execution's side by side, for one item or all of them."""
        ours, *theirs = (
            {(c.item, c.row, c.column): c for c in cells if item in (None, c.item)}
            for cells in (self.cells(), *map(self.study_cells, self.studies))
        )
        keys = list(dict.fromkeys(key for cells in (ours, *theirs) for key in cells))
        if not keys:
            text = f"<p>No run of {escape(item or self.name)} ended with finite numbers.</p>"
            return Html(html.box(text, warning=True))
        measured = {(key[0], key[2]) for key in keys}
        keys += [key for key in paper.values() if (key[0], key[2]) in measured and key not in keys]
        columns = {column for _, column in measured}
        counted = all(cell.estimate.n == 0 for cells in (ours, *theirs) for cell in cells.values())
        headings = [self._study_heading(study) for study in self.studies] or [NO_STUDY]
        rows, notes = [], {}
        for key in keys:
            row = {"": escape(key[1])} | ({" ": escape(key[2])} if len(columns) > 1 else {})
            row["paper"] = paper_cell(key, notes)
            if counted:
                row["counted by code"] = measured_cell(ours.get(key))
            else:
                row |= {
                    heading: measured_cell(cells.get(key))
                    for heading, cells in zip(headings, theirs or [{}], strict=True)
                }
                row[self._heading()] = measured_cell(ours.get(key))
            rows.append(row)
        about = [item] if item else list(self.experiment.ITEMS)
        about += columns if len(columns) == 1 else ()
        caption = f"<b>{escape(', '.join(about))}</b>"
        if not counted:
            caption += ". Means over seeds, with 95 % intervals in brackets"
        text = html.table(rows, caption, row_headers=("", " ") if len(columns) > 1 else ("",))
        text += "".join(f"<p>{small(note)}</p>" for note in notes.values())
        frame = cells_frame(keys, ours, dict(zip(self._short_names("_"), theirs, strict=True)))
        link = html.csv_link(frame, f"{self.name}-{slug(item or 'table')}.csv")
        return Html(f"{text}<p>{small(link)}</p>")

    def paper_table(self, item: str) -> Html:
        """The paper's own values of an item, rows by columns as in the paper; n/a where unknown."""
        keys = [key for key in paper.values() if key[0] == item]
        columns, notes = dict.fromkeys(column for _, _, column in keys), {}
        rows = [
            {"": escape(row)} | {escape(column): paper_cell((item, row, column), notes) for column in columns}
            for row in dict.fromkeys(row for _, row, _ in keys)
        ]
        sources = dict.fromkeys(paper.SOURCES[paper.value(*key).source] for key in keys)
        caption = f"<b>{escape(item)}</b>, the paper's values. Source: {escape('; '.join(sources))}"
        text = html.table(rows, caption, row_headers=("",))
        return Html(text + "".join(f"<p>{small(note)}</p>" for note in notes.values()))

    def _heading(self) -> str:
        return f"this execution{small(self._label())}"

    def _study_heading(self, study: ExperimentRecords) -> str:
        return f"this study{small(_label_of(study))}"

    def _label(self) -> str:
        return f"{self.profile.name}, {escape(devices(self.records))}" if self.records else self.profile.name

    def _short_names(self, joint: str) -> list[str]:
        """A name for each study: ``study`` alone, or with its profile where there are several."""
        if len(self.studies) == 1:
            return ["study"]
        return [f"study{joint}{study.profile.name}" for study in self.studies]

    # ------------------------------------------------------------------ figures

    def figure(self, name: str) -> Html:
        """A figure of the experiment, from this execution's records and from the published ones."""
        drawn = self.experiment.FIGURES[name]
        where = f"{self.profile.name}, {count(len(self.session.seeds), 'seed')}"
        parts, whose = [], "This execution"
        for short, study in zip(self._short_names("-"), self.studies, strict=True):
            if self._same_as(study):
                whose = "This study and this execution"
                continue
            label = f"This study ({_label_of(study)})"
            parts.append(self._draw(f"{name}-{short}", drawn, study.records, study.artifacts, label))
        parts.append(self._draw(name, drawn, self.records, self.store.root, f"{whose} ({where})"))
        return Html(html.figures(parts))

    def _draw(self, name: str, drawn: Figure, records: Sequence[Record], folder: Path, label: str) -> str:
        frame = drawn.data(records)
        if frame.empty and records is not self.records:  # an incomplete study may have none of its runs
            return html.box(f"<p>{label}: no run that this figure shows is published.</p>")
        try:
            image = html.svg_image(drawn.draw(frame, records, folder), f"{label}: {drawn.alt}")
        except MlplibError as error:  # a published artifact that is not there must not end the chapter
            return html.box(f"<p>{label}: {escape(error)}</p>", warning=True)
        link = html.csv_link(frame, f"{self.name}-{name}.csv")
        return html.figure(image, f"<b>{label}.</b> {escape(drawn.caption)} {link}.")

    def _same_as(self, study: ExperimentRecords) -> bool:
        """Whether published records are this execution's: the same runs with the same results."""
        ours, theirs = ({r.id: r.metrics for r in records} for records in (self.records, study.records))
        return ours == theirs

    # ------------------------------------------------------------------ verdicts

    def verdicts(self) -> Html:
        """What the records say of each claim of this chapter."""
        return Html("".join(self._verdict(claim) for claim in self.experiment.CLAIMS))

    def _verdict(self, claim: Claim) -> str:
        rows = []
        for study in self.studies:
            judged = decide(claim, study.records, study.profile.name)
            rows.append({" ": self._study_heading(study)} | judgement_cells(judged))
        rows = rows or [{" ": NO_STUDY, "verdict": "–", "effect": "–"}]
        judged = decide(claim, self.records, self.profile.name)
        rows.append({" ": self._heading()} | judgement_cells(judged))
        text = f"<p><b>{claim.id}. {escape(claim.sentence)}</b> ({escape(claim.item)})</p>"
        text += f"<p>{small('Criterion: ' + escape(claim.criterion))}</p>"
        table = html.table(rows, f"Verdict on {claim.id}", row_headers=(" ",))
        return f'<div class="mlp-claim">{text}{table}</div>'

    # ------------------------------------------------------------------ settings and provenance

    def settings(self) -> Html:
        """This execution's and the study's settings beside those of profile ``paper``, bold if different."""
        as_paper = self.experiment.runs(PROFILES["paper"], PROFILES["paper"].seeds)
        columns = {"profile paper": facts(as_paper)}
        for study in self.studies:
            columns[self._study_heading(study)] = facts([r.spec for r in study.records])
        columns[f"this execution{small(self.profile.name)}"] = facts(self.specs)
        rows = []
        for name, wanted in columns["profile paper"].items():
            if all(values[name] == NO_FACT for values in columns.values()):
                continue
            row = {" ": name}
            for column, values in columns.items():
                value = escape(values[name])
                row[column] = value if values[name] == wanted else f"<b>{value}</b>"
            rows.append(row)
        caption = "<b>Settings</b>; bold where they are not those of profile <code>paper</code>"
        return Html(html.table(rows, caption, row_headers=(" ",)))

    def provenance(self) -> Html:
        """Which runs every number comes from, and how each run was made; folded."""
        parts = []
        sides = [("This execution", self.cells(), [*self.records, *self._upstream()])]
        for study in self.studies:
            # With the profile only where there are several: it is part of the addresses of the runs.
            side = "This study" if len(self.studies) == 1 else f"This study, {study.profile.name}"
            sides.append((side, self.study_cells(study), [*study.records, *study.upstream]))
        for side, cells, records in sides:
            numbers = [cell for cell in cells if cell.run_ids]
            if numbers:
                parts.append(numbers_table(side, numbers))
            if records:
                parts.append(runs_table(side, records))
        return Html(html.fold("Where every number comes from", "".join(parts)))

    def _upstream(self) -> list[Record]:
        """The runs that this execution's runs read from, as far as the store has them."""
        known = {record.id for record in self.records}
        runs = planning.with_upstream(record.spec for record in self.records)
        found = (self.store.find(spec) for id, spec in runs.items() if id not in known)
        return [record for record in found if record is not None]

    def show(self, figure, caption: str, alt: str) -> Html:
        """A matplotlib figure of one's own, with its caption and, in ``alt``, what it shows in words."""
        return Html(html.figures([html.figure(html.svg_image(figure, alt), escape(caption))]))


NO_STUDY = f"this study{small(NOT_PUBLISHED)}"
"""What stands over the study's column where nothing is published."""


def _label_of(study: ExperimentRecords) -> str:
    return f"{study.profile.name}, {escape(study.devices)}"


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
            named = [current.__globals__.get(name) for name in code.co_names]
            modules = [thing for thing in named if inspect.ismodule(thing)]
            named += [getattr(module, name, None) for module in modules for name in code.co_names]
            called = filter(inspect.isfunction, named)
            todo += [f for f in called if f.__module__.startswith("mlpstudy.experiments")]
    return found
