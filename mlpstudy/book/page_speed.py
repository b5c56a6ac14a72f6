"""What the notebook ``how-fast`` shows: where the time of a training step goes, how near it comes to what the
machine can do, the targets, and what was tried. Measured on the spot, and read from ``results/bench``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlplib import planning
from mlplib.errors import MlplibError
from mlplib.store import Record

from ..bench import derived, layers, live, loaders, show, speed, tried
from ..bench.rounds import rate, summary
from ..bench.targets import MET, NOT_MEASURED, TARGETS, bounds
from ..evidence.records import every_published, results_folder
from ..experiments import EXPERIMENTS, experiment
from ..plots import speed as draw
from . import html
from .html import Html, escape, small
from .page_scoreboard import overview_banner
from .session import Session, counted, open_session
from .tables import duration

FOLDER = "bench"
"""Where the published files are, inside the folder of results."""

COMMAND = f"mlplib bench --json results/{FOLDER}/<name>.json"
ACCURACY = f"mlplib bench accuracy --json results/{FOLDER}/accuracy-<name>.json"
HERE = "this execution"

VERDICT_CLASSES = {MET: "reproduced", NOT_MEASURED: "untested"}
"""The look of a verdict on a target; one that is not met looks like a claim that is not reproduced."""


def open_how_fast(**parameters) -> HowFast:
    """The first call of the page.

    Args:
        parameters: the notebook's, see :class:`mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible, or a published file cannot be read.
    """
    session = open_session(parameters)
    found = read_files(results_folder(session.results_dir) / FOLDER)
    kinds = {
        what: {name: content for name, content in found.items() if content["what"] == what}
        for what in ("speed", "accuracy")
    }
    return HowFast(session, kinds["speed"], kinds["accuracy"])


def read_files(folder: Path) -> dict[str, dict]:
    """The published measurements by the name of their file, in its order; none without a folder.

    Raises:
        MlplibError: a file is damaged or of another format.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = content["format"] == speed.FORMAT
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise MlplibError(f"{path.name} is no file of this bench: make it again with {COMMAND}")
        found[path.stem] = content
    return found


@dataclass
class HowFast:
    """``files``: published measurements of speed by name; ``accuracies``: of accuracy; ``live``: what
    :meth:`measure` found, None before.
    """

    session: Session
    files: dict[str, dict]
    accuracies: dict[str, dict]
    live: dict | None = field(default=None)

    @property
    def sources(self) -> dict[str, dict]:
        """All measurements by the name that they are shown under."""
        named = {f"{name} ({found['machine']['device']})": found for name, found in self.files.items()}
        return named if self.live is None else named | {f"{HERE} ({show.about(self.live)})": self.live}

    def banner(self) -> Html:
        """What is timed here, and on which machine."""
        case = live.case_of(self.session.profile, self.session.device)
        files = ", ".join(f"<code>results/{FOLDER}/{escape(name)}.json</code>" for name in self.files)
        covers = f"{escape(case.name)}, timed here; {files or 'no published file'}"
        return overview_banner("how-fast", self.session, covers)

    def measure(self) -> Html:
        """Time a step, its parts, layers and other ways on this machine, and list them."""
        session = self.session
        command = f"mlplib notebook how-fast --profile {session.profile.name}"
        progress = counted(1, 1)
        self.live = live.measure(session.profile, session.seeds, session.device, command, progress)
        _clear()
        return self._rows(self.live, self.live["cases"][0]["name"], HERE)

    # ------------------------------------------------------------------ a step

    def steps(self) -> Html:
        """The steps of the published files, their parts and the reference loop."""
        parts = [
            self._rows(found, case["name"], name)
            for name, found in self.files.items()
            for case in found["cases"]
        ]
        return Html("".join(parts) or _nothing())

    def parts(self) -> Html:
        """A figure: where the time of a step goes."""
        import pandas as pd

        rows = [
            {"what": what, "part": part, "milliseconds": 1e3 * seconds}
            for what, found in self._cases()
            for part, seconds in derived.step_parts(found).items()
        ]
        frame = pd.DataFrame(rows, columns=["what", "part", "milliseconds"])
        alt = "; ".join(
            f"{what.replace(chr(10), ', ')}: "
            + ", ".join(f"{row.part} {row.milliseconds:.3g} ms" for row in part.itertuples())
            for what, part in frame.groupby("what", sort=False)
        )
        caption = "<b>Where the time of a step goes</b>, medians over rounds."
        return _figure(draw.step_parts(frame), alt, caption, frame, "step-parts.csv")

    def _cases(self) -> Iterable[tuple[str, Mapping[str, dict]]]:
        """Every case that was timed: its name and its rows."""
        for name, found in self.sources.items():
            for case in found["cases"]:
                yield f"{case['model']},\n{_short(name)}", speed.rows_of(found, case["name"])

    def loaders(self) -> Html:
        """Ways to get a batch, from the published files."""
        parts = [self._rows(found, loaders.GROUP, name) for name, found in self.files.items()]
        return Html("".join(filter(None, parts)) or _nothing())

    def _rows(self, found: dict, group: str, name: str) -> str:
        rows = []
        for row in speed.rows_of(found, group).values():
            cells = {"measure": escape(row["name"])}
            if "why" in row:
                cells |= {"ms": f"not measured: {escape(row['why'])}", "images/s": "–", "rate": "–"}
            else:
                time = summary([1e3 * seconds for seconds in row["seconds"]])
                images = f"{rate(row, 'images')['value']:,.0f}" if "images" in row else "–"
                cells |= {"ms": show.spread(time), "images/s": images}
                cells["rate"] = escape(show.speed(row, "flops") or "–")
            rows.append(cells)
        if not rows:
            return ""
        heading = f"<b>{escape(group)}</b>, {escape(name)}, {escape(show.about(found))}: median [quartiles]"
        return Html(html.table(rows, heading, row_headers=("measure",)))

    # ------------------------------------------------------------------ the roofline

    def roofline(self) -> Html:
        """A figure: layers of B-MLPs under the roof of each device."""
        frame = self.layers()
        alt = "; ".join(
            f"{source}: width {row.width}, batch {row.batch} reaches {row.flops_per_second:.3g} FLOP/s"
            for source, part in frame.groupby("source", sort=False)
            for row in part.nlargest(1, "flops_per_second").itertuples()
        )
        caption = "<b>Layers under the roof</b>: a line a width, from small batches to large ones."
        return _figure(draw.layer_roofline(frame), alt, caption, frame, "layers.csv")

    def layers(self):
        """The layers as a DataFrame: ``source, width, batch, flops_per_byte, flops_per_second,
        peak_flops_per_second, bytes_per_second``.
        """
        import pandas as pd

        rows = []
        for name, found in self.sources.items():
            points = speed.rows_of(found, layers.GROUP)
            if not points:
                continue
            peak = rate(points["matmul"], "flops")["value"]
            bandwidth = rate(points["copy"], "bytes")["value"]
            for id, row in points.items():
                if not id.startswith("width-"):
                    continue
                _, width, _, batch = id.split("-")
                rows.append(
                    {
                        "source": _short(name),
                        "width": int(width),
                        "batch": int(batch),
                        "flops_per_byte": row["flops"] / row["bytes"],
                        "flops_per_second": rate(row, "flops")["value"],
                        "peak_flops_per_second": peak,
                        "bytes_per_second": bandwidth,
                    }
                )
        return pd.DataFrame(rows, columns=LAYER_COLUMNS)

    # ------------------------------------------------------------------ targets, trials, runs

    def targets(self) -> Html:
        """Every target, with what each published file says of it."""
        judged = {name: {row["id"]: row for row in found["targets"]} for name, found in self.files.items()}
        rows = []
        for target in TARGETS:
            row = {"what": escape(target.sentence) + small(escape(target.reason))}
            row["target"] = escape(bounds(target))
            row |= {escape(name): _verdict(found.get(target.id)) for name, found in judged.items()}
            rows.append(row)
        met = "; ".join(
            f"{escape(name)}: {sum(row['verdict'] == MET for row in found.values())} met of "
            f"{sum(row['verdict'] != NOT_MEASURED for row in found.values())} measured"
            for name, found in judged.items()
        )
        caption = f"<b>Targets</b>; {met or 'no published file'}"
        return Html(html.table(rows, caption, row_headers=("what",)))

    def tried(self) -> Html:
        """Other ways, each with its time over ours."""
        found = {
            _short(name): {trial: ratio for trial, ratio in tried.results(source["rows"])}
            for name, source in self.sources.items()
        }
        trials = dict.fromkeys(trial for each in found.values() for trial in each)
        rows = []
        for trial in trials:
            instead = f"instead of {escape(trial.instead_of)}; {escape(trial.hope)}"
            row = {"tried": escape(trial.name) + small(instead)}
            for name, each in found.items():
                ratio = each.get(trial)
                if ratio is None:
                    row[escape(name)] = "–"
                else:
                    row[escape(name)] = f"{show.spread(ratio)} times" + small(show.helped(ratio))
            rows.append(row)
        if not rows:
            return Html(_nothing())
        caption = "<b>Time for an image, over ours</b>: median [quartiles] over rounds"
        return Html(html.table(rows, caption, row_headers=("tried",)))

    def precision(self) -> Html:
        """Test accuracy in bf16 and in float32, and the difference over seeds, from the published files."""
        parts = []
        for table in (table for content in self.accuracies.values() for table in show.tables(content)):
            rows = [dict(zip(table.columns, map(escape, row), strict=True)) for row in table.rows]
            parts.append(html.table(rows, escape(table.title), row_headers=table.columns[:1]))
        return Html("".join(parts) or _nothing(ACCURACY))

    def runs(self) -> Html:
        """The share of the matrix-product rate that the study's own training runs reached."""
        groups: dict[tuple[str, str, str], list[Record]] = {}
        for side, record in self._training_runs():
            key = side, record.spec.model.name, record.environment.get("device", "unknown")
            groups.setdefault(key, []).append(record)
        rows = []
        for (side, model, device), records in sorted(groups.items()):
            shares = [record.compute["matmul_fraction"] for record in records]
            images = statistics.median(record.compute["images_per_second"] for record in records)
            rows.append(
                {
                    "whose": escape(side),
                    "network": escape(model),
                    "device": escape(device),
                    "runs": f"{len(records):,}",
                    "images/s": f"{images:,.0f}",
                    "share of the rate": show.spread(summary(shares)),
                }
            )
        if not rows:
            return Html(html.box("<p>No training runs: nothing is published or finished.</p>"))
        caption = "<b>Training runs</b>, end to end: median [quartiles] over runs"
        return Html(html.table(rows, caption, row_headers=("whose", "network")))

    def _training_runs(self) -> Iterable[tuple[str, Record]]:
        """Training from a random start that ended, each once, by whose it is."""
        found: dict[tuple[str, str], Record] = {}
        for name in EXPERIMENTS:
            for each in every_published(name, self.session.results_dir):
                for record in (*each.records, *each.upstream):
                    found[f"this study, {each.profile.name}", record.id] = record
            runs = experiment(name).runs(self.session.profile, self.session.seeds)
            for spec in planning.with_upstream(runs).values():
                record = self.session.store.find(spec)
                if record is not None:
                    found[f"{HERE}, {self.session.profile.name}", record.id] = record
        for (side, _), record in found.items():
            if record.spec.kind == "train" and record.compute.get("matmul_fraction"):
                yield side, record

    # ------------------------------------------------------------------ provenance

    def provenance(self) -> Html:
        """How every measurement was made."""
        rows = []
        for name, found in (self.sources | self.accuracies).items():
            machine = found["machine"]
            versions = ", ".join(
                f"{package} {machine[package]}"
                for package in ("python", "torch", "torchvision", "ffcv", "numpy")
                if machine.get(package)
            )
            commit = (machine.get("commit") or "unknown")[:10]
            rows.append(
                {
                    "measured": escape(_short(name)),
                    "on": escape(f"{machine['device']}, {machine['precision']}"),
                    "rounds": str(found.get("rounds", "–")),
                    "took": duration(found["seconds"]),
                    "with": escape(versions),
                    "commit": f"<code>{commit}</code>" + (" + changes" if machine.get("dirty") else ""),
                    "command": f"<code>{escape(found['command'])}</code>",
                }
            )
        if not rows:
            return Html(_nothing())
        return Html(html.table(rows, "<b>How it was measured</b>", row_headers=("measured",)))


LAYER_COLUMNS = [
    "source",
    "width",
    "batch",
    "flops_per_byte",
    "flops_per_second",
    "peak_flops_per_second",
    "bytes_per_second",
]


def _short(name: str) -> str:
    """The name of a source without its machine."""
    return name.split(" (")[0]


def _verdict(row: Mapping | None) -> str:
    """A target's cell, as HTML."""
    if row is None:
        return '<span class="mlp-muted">–</span>'
    look = VERDICT_CLASSES.get(row["verdict"], "not")
    text = f'<span class="mlp-verdict {look}">{escape(row["verdict"])}</span>'
    if "why" in row:
        return text + small(escape(row["why"]))
    value = f"{show.digits(row['value'])} {row['unit']}".rstrip()
    between = f"{show.digits(row['q25'])} to {show.digits(row['q75'])}"
    return (
        text
        + f'<span class="mlp-number">{escape(value)}</span>'
        + small(escape(f"half of the rounds {between}"))
    )


def _figure(drawn, alt: str, caption: str, frame, filename: str) -> Html:
    image = html.svg_image(drawn, alt or "nothing to draw")
    return Html(html.figures([html.figure(image, f"{caption} {html.csv_link(frame, filename)}.")]))


def _nothing(command: str = COMMAND) -> str:
    return html.box(f"<p>No published measurement: make one with <code>{escape(command)}</code>.</p>")


def _clear() -> None:
    """Take the lines of progress away."""
    from IPython.display import clear_output

    clear_output()
