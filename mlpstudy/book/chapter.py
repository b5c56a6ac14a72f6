"""The methods that a chapter's cells call: banner, runs, tables, figures, verdicts and provenance.

All results that a chapter shows are computed here from records, so no number is typed into a notebook.
"This execution" means the runs of the profile and seeds in the notebook's parameters; "this study" means the
published records. In profile ``published`` there is no execution: nothing is trained, no data set is read.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mlplib.errors import MlplibError
from mlplib.specs import RunSpec
from mlplib.store import Record, RunStore, by_id

from .. import paper, planning
from ..claims import Claim, decide
from ..evidence.records import ExperimentRecords, shown
from ..experiments import experiment
from ..experiments.base import Cell
from ..profiles import PROFILES, Profile
from ..words import count, devices, duration
from . import html, svg
from .html import Html, escape, small
from .parameters import of_notebook
from .session import Session, counted, open_session, replace_line
from .tables import (
    NO_FACT,
    NO_STUDY,
    cells_frame,
    chip,
    criterion,
    diverged,
    facts,
    judgement_cells,
    measured_cell,
    minus,
    numbers_table,
    paper_cell,
    run_anchor,
    run_hash,
    runs_table,
    slug,
    training_time,
)


def open_chapter(name: str, **parameters) -> Chapter:
    """The first call of a chapter: check the notebook's parameters, find published records. Trains nothing.

    Args:
        name: the name of the experiment.
        parameters: the notebook's :class:`~mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible.
    """
    session = open_session(parameters, of_notebook(name))
    studies = shown(name, session.results_dir)
    if session.reading and studies:
        session = replace(session, profile=studies[0].profile)
    return Chapter(name, experiment(name), session, studies)


def source(*objects: Callable):
    """The source of functions and classes, shown as code."""
    from IPython.display import Markdown

    return Markdown("\n\n".join(f"```python\n{inspect.getsource(thing).rstrip()}\n```" for thing in objects))


@dataclass
class Chapter:
    """One experiment at one profile: its runs, their results, and the verdicts on the paper's claims.

    ``records`` is empty until :meth:`run`. ``studies``: the published records to show beside it, the best
    profile first; several if the best has few seeds, see :func:`mlpstudy.evidence.records.shown`.
    Methods return :class:`mlpstudy.book.html.Html` for a cell to display.
    """

    name: str
    experiment: types.ModuleType
    session: Session
    studies: list[ExperimentRecords]
    records: list[Record] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        """The profile of this execution, or of the best published records if nothing is executed."""
        return self.session.profile

    @property
    def store(self) -> RunStore:
        """The store of this execution's runs."""
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

    def found(self) -> Html:
        """The opening of a chapter: the verdicts of the published records on each claim, and the effects."""
        parts = []
        for claim in self.experiment.CLAIMS:
            judged = {s.profile.name: decide(claim, s.records, s.profile.name) for s in self.studies}
            chips = "".join(chip(j.verdict, f"{name}: {j.words}") for name, j in judged.items())
            measured = {name: j.effect_text() for name, j in judged.items() if j.measured}
            effects = "".join(small(f"{name}: {minus(escape(text))}") for name, text in measured.items())
            said = f"<b>{claim.id}.</b> {escape(claim.sentence)}{effects}"
            parts.append(f'<div class="mlp-found"><p>{said}</p><p>{chips}</p></div>')
        text = "".join(parts) if self.studies else f"<p>{NO_RECORDS}</p>"
        return Html(html.STYLE + html.box(text))

    def banner(self) -> Html:
        """What this execution is going to do, where, and how long it will take; or what is published."""
        covers = escape(", ".join(self.experiment.ITEMS))
        if self.session.reading:
            return html.banner(self.session.entries(self.name, covers))
        plan = planning.Planner(self.store, self.session.device_name).plan(self.specs)
        total, missing = len(plan.runs), len(plan.missing)
        left = f"{total - missing} of them done already; the rest will take about {duration(plan.seconds)}"
        more = {"Runs": f"{total}, {left if missing else 'all of them done already'}"}
        if missing:
            more |= self.session.computes()
        entries = self.session.entries(self.name, covers, **more)
        if self.session.checkpoints:
            names = [f"{c.spec.name} (SHA-256 {c.spec.sha256[:12]}…)" for c in self.session.checkpoints]
            entries["Official weights"] = escape("; ".join(names))
        return html.banner(entries)

    def definition(self):
        """The source of the experiment's ``runs`` and of the experiments' functions that it calls."""
        return source(*_with_callees(self.experiment.runs))

    # ------------------------------------------------------------------ the runs

    def run(self) -> list[Record]:
        """Execute every run that has no record yet and return all records. Shows progress, then the cost.

        In profile ``published``: return the best published records and say so.

        Raises:
            Interrupted: stopped on request; the same call continues from there.
        """
        from IPython.display import clear_output, display

        if self.session.reading:
            texts = [f"{_about(found)}: {_what_ran(found)}" for found in self.studies] or [NO_RECORDS]
            display(html.box("".join(f"<p>{text}</p>" for text in texts)))
            self.records = list(self.studies[0].records) if self.studies else []
            return self.records
        plan = planning.Planner(self.store, self.session.device_name).plan(self.specs)
        if plan.missing:
            self._execute(plan.missing)
            clear_output()
        self.records = [self.store.find(spec) for spec in by_id(self.specs).values()]
        records = [record for record in map(self.store.find, plan.runs) if record is not None]
        text = (
            f"<p>{count(len(records), 'run')}: {len(records) - len(plan.missing)} found, "
            f"{len(plan.missing)} done now. "
            f"Training took {training_time(records)} in all, on {escape(devices(records))}.</p>"
        )
        lost = [f"<code>{escape(r.id)}</code>" for r in self.records if r.status != "completed"]
        if lost:
            text += (
                f"<p>{count(len(lost), 'run')} diverged (a loss that is not finite) and is left out below: "
                f"{', '.join(lost)}.</p>"
            )
        display(html.box(text, warning=bool(lost)))
        return self.records

    def _execute(self, missing: Sequence[RunSpec]) -> None:
        from mlplib.executor import Executor  # here, since it imports torch

        executor = Executor(
            self.store, self.session.checkpoints, device=self.session.device, log=replace_line
        )
        for number, spec in enumerate(missing, start=1):
            executor.how = replace(executor.how, progress=counted(number, len(missing)))
            executor.record(spec)

    # ------------------------------------------------------------------ whose records

    def _sides(self) -> dict[str, ExperimentRecords]:
        """The records to show: ``study`` (``study-gpu`` if there are several), then ``execution``."""
        several = len(self.studies) > 1
        studies = {f"study-{s.profile.name}" if several else "study": s for s in self.studies}
        if self.session.reading:
            return studies
        known = {record.id for record in self.records}
        runs = planning.with_upstream(record.spec for record in self.records)
        found = (self.store.find(spec) for id, spec in runs.items() if id not in known)
        upstream = [record for record in found if record]
        own = ExperimentRecords(self.name, self.profile, self.records, self.store.root, upstream)
        return studies | {"execution": own}

    def _columns(self) -> dict[str, ExperimentRecords | None]:
        """The same records by column heading (HTML); the study has a column even if nothing is published."""
        headings = {
            f"this {side.partition('-')[0]}{small(_about(found))}": found
            for side, found in self._sides().items()
        }
        return headings if self.studies else {NO_STUDY: None} | headings

    def _cells(self, found: ExperimentRecords) -> list[Cell]:
        """The cells of the experiment's tables, computed from some of its records."""
        return self.experiment.summary(found.records, found.profile)

    # ------------------------------------------------------------------ tables

    def table(self, item: str | None = None) -> Html:
        """The paper's values, this study's and this execution's side by side, for one item or all of them."""
        cells = {
            heading: {(c.item, c.row, c.column): c for c in self._cells(found) if item in (None, c.item)}
            if found
            else {}
            for heading, found in self._columns().items()
        }
        *theirs, ours = cells.values()  # in reading mode, the last study takes the place of ours
        keys = list(dict.fromkeys(key for found in (ours, *theirs) for key in found))
        if not keys:
            text = f"No run of {escape(item or self.name)} ended with finite numbers."
            text = text if self._sides() else NO_RECORDS
            return html.box(f"<p>{text}</p>", warning=True)
        measured = {(key[0], key[2]) for key in keys}
        keys += [key for key in paper.values() if (key[0], key[2]) in measured and key not in keys]
        columns = {column for _, column in measured}
        if all(cell.estimate.n == 0 for found in cells.values() for cell in found.values()):
            cells = {"counted by code": ours}
            statistics = ""
        else:
            statistics = ". In brackets: 95 % intervals"
        rows, notes = [], {}
        for key in keys:
            row = {"": escape(key[1])} | ({" ": escape(key[2])} if len(columns) > 1 else {})
            row["paper"] = paper_cell(key, notes)
            rows.append(row | {heading: measured_cell(found.get(key)) for heading, found in cells.items()})
        about = [item] if item else list(self.experiment.ITEMS)
        about += columns if len(columns) == 1 else ()
        row_headers = ("", " ") if len(columns) > 1 else ("",)
        text = html.table(rows, f"<b>{escape(', '.join(about))}</b>{statistics}", *row_headers)
        sides = [side.replace("-", "_") for side in self._sides()]
        frame = cells_frame(keys, dict(zip(sides, (*theirs, ours)[-len(sides) :], strict=True)))
        link = html.csv_link(frame, f"{self.name}-{slug(item or 'table')}.csv")
        return Html(text + _footnotes(notes) + f"<p>{small(link)}</p>")

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
        return Html(html.table(rows, caption, "") + _footnotes(notes))

    # ------------------------------------------------------------------ figures

    def figure(self, name: str) -> Html:
        """A figure of the experiment, from the published records and from this execution's, in tabs."""
        drawn, sides, panes = self.experiment.FIGURES[name], self._sides(), {}
        results = {side: {r.id: r.metrics for r in found.records} for side, found in sides.items()}
        same = [side for side in sides if side != "execution" and results[side] == results.get("execution")]
        for side, found in sides.items():
            if side in same:
                continue
            both = same and side == "execution"
            whose = "This study and this execution" if both else f"This {side.partition('-')[0]}"
            panes[f"{whose} ({_about(found)})"] = self._draw(name, found, side)
        if not panes:
            return html.box(f"<p>{NO_RECORDS}</p>")
        caption = escape(drawn.caption)
        if len(panes) == 1:
            caption = f"<b>{next(iter(panes))}.</b> {caption}"
        # The last study is the one with several seeds.
        image = html.tabs(f"{self.name}-{name}", panes, max(0, len(self.studies) - 1 - len(same)))
        return html.figure(image, caption)

    def _draw(self, name: str, found: ExperimentRecords, side: str) -> str:
        """A figure of some records, with its data, or why there is none."""
        drawn = self.experiment.FIGURES[name]
        frame = drawn.data(found.records)
        if frame.empty and found.records is not self.records:  # an incomplete study may have none of its runs
            return html.box("<p>No run that this figure shows is published.</p>")
        try:
            figure = drawn.draw(frame, found.artifacts)
        except MlplibError as error:  # a published artifact that is not there must not end the chapter
            return html.box(f"<p>{escape(error)}</p>", warning=True)
        anchor = partial(run_anchor, _title(side))
        image = svg.drawing(figure, f"{_title(side)}: {drawn.alt}", frame, anchor)
        file = "-".join([self.name, name, *([] if side == "execution" else [side])])
        if "run" in frame:
            frame = frame.assign(run=frame["run"].map(run_hash))
        return f"{image}<p>{small(html.csv_link(frame, f'{file}.csv'))}</p>"

    def show(self, figure, caption: str, alt: str) -> Html:
        """A matplotlib figure made in a notebook, with its caption and alternative text."""
        return html.figure(svg.drawing(figure, alt), escape(caption))

    # ------------------------------------------------------------------ verdicts

    def verdicts(self) -> Html:
        """The verdicts of the records on each claim of this chapter."""
        return Html("".join(self._verdict(claim) for claim in self.experiment.CLAIMS))

    def _verdict(self, claim: Claim) -> str:
        rows = []
        for heading, found in self._columns().items():
            cells = {"verdict": "–", "effect": "–"}
            if found:
                cells = judgement_cells(decide(claim, found.records, found.profile.name))
            rows.append({" ": heading} | cells)
        text = f"<p><b>{claim.id}. {escape(claim.sentence)}</b> ({escape(claim.item)})</p>"
        text += f"<p>{small('Criterion: ' + criterion(claim))}</p>"
        table = html.table(rows, f"Verdict on {claim.id}", " ")
        return f'<div class="mlp-claim">{text}{table}</div>'

    # ------------------------------------------------------------------ settings and provenance

    def settings(self) -> Html:
        """The settings of every side's runs beside those of profile ``paper``, bold where they differ."""
        as_paper = self.experiment.runs(PROFILES["paper"], PROFILES["paper"].seeds)
        columns = {"profile paper": facts(as_paper)}
        for heading, found in self._columns().items():
            if found:
                columns[heading] = facts([record.spec for record in found.records])
        rows = []
        for name, wanted in columns["profile paper"].items():
            values = {column: escape(found[name]) for column, found in columns.items()}
            if set(values.values()) != {NO_FACT}:
                bold = {
                    c: value if value == escape(wanted) else f"<b>{value}</b>" for c, value in values.items()
                }
                rows.append({" ": name} | bold)
        caption = "<b>Settings</b>; bold where they are not those of profile <code>paper</code>"
        return html.table(rows, caption, " ")

    def provenance(self) -> Html:
        """Which runs every number comes from, and how each run was made; folded."""
        parts = []
        for side, found in self._sides().items():
            title = _title(side)
            numbers = [cell for cell in self._cells(found) if cell.run_ids]
            if numbers:
                parts.append(numbers_table(title, numbers))
            if found.records:
                parts.append(runs_table(title, found.everything))
        return Html(html.fold("Where every number comes from", "".join(parts) or f"<p>{NO_RECORDS}</p>"))


def _title(side: str) -> str:
    return f"This {side.replace('-', ', ')}"


NO_RECORDS = (
    "No run of this chapter is published, so there are no results to show: execute it with another profile."
)


def _what_ran(found: ExperimentRecords) -> str:
    records = found.everything
    runs = ", ".join(filter(None, (count(len(records), "published run"), diverged(records))))
    return f"{runs}. Their training took {training_time(records)} in all; nothing is trained here."


def _about(found: ExperimentRecords) -> str:
    """Profile and devices, HTML."""
    return ", ".join(filter(None, (found.profile.name, escape(found.devices))))


def _footnotes(notes: dict[str, str]) -> str:
    return "".join(f"<p>{small(note)}</p>" for note in notes.values())


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
