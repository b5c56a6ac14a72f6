"""The notebook ``how-fast``: where the time of a training step goes, its share of the machine's rate,
targets, and alternatives that were tried. Measured live, and read from ``results/bench``.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlplib.errors import MlplibError
from mlplib.store import Record
from mlplib.timing import summary

from .. import paper
from ..bench import derived, show, speed, tried
from ..bench.targets import MET, NOT_MEASURED, TARGETS, bounds
from ..evidence.records import results_folder
from ..plots import speed as draw
from ..words import digits, duration
from . import html, svg
from .html import Html, escape, small
from .page_scoreboard import overview_banner
from .session import Session, counted, different, open_session

FOLDER = "bench"
"""Folder of the published files, inside the folder of results."""

COMMAND = f"mlplib bench --json results/{FOLDER}/<name>.json"
ACCURACY = f"mlplib bench accuracy --json results/{FOLDER}/accuracy-<name>.json"
HERE = "this execution"

PAPER_STEP = ([64, 64, 3], 16384)
"""The images and the batch of the paper's pre-training (Section 4.5)."""

KINDS = ("speed", "accuracy", "against")
"""The kinds of files, in the order of :class:`HowFast`'s fields."""

VERDICT_CLASSES = {MET: "reproduced", NOT_MEASURED: "untested"}
"""The look of a verdict on a target; a missed one looks like a claim that is not reproduced."""


def open_how_fast(**parameters) -> HowFast:
    """Open the page with the notebook's :class:`~mlpstudy.book.parameters.Parameters`.

    Raises:
        MlplibError: a parameter is unknown or impossible, or a published file cannot be read.
    """
    session = open_session(parameters)
    kinds: dict[str, dict[str, dict]] = {kind: {} for kind in KINDS}
    for name, content in read_files(results_folder(session.results_dir) / FOLDER).items():
        kinds[content["what"]][name] = content
    return HowFast(session, *kinds.values())


def read_files(folder: Path) -> dict[str, dict]:
    """The published measurements by file name, sorted by it; empty without a folder.

    Raises:
        MlplibError: a file is damaged or of another format.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        if (content := speed.read(path, *KINDS)) is None:
            raise MlplibError(f"{path.name} is not a file of mlplib bench: make it again with {COMMAND}")
        found[path.stem] = content
    return found


@dataclass
class HowFast:
    """``files``, ``accuracies``, ``comparisons``: published measurements of speed, of accuracy and of two
    revisions by name; ``live``: the result of :meth:`measure`, None before.
    """

    session: Session
    files: dict[str, dict]
    accuracies: dict[str, dict]
    comparisons: dict[str, dict]
    live: dict | None = None

    @property
    def sources(self) -> dict[str, dict]:
        """The measurements of speed by name, this execution's last."""
        return self.files | ({} if self.live is None else {HERE: self.live})

    def banner(self) -> Html:
        """What this page covers, and on which machine it times."""
        files = ", ".join(f"<code>results/{FOLDER}/{escape(name)}.json</code>" for name in self.files)
        covers, device = files or "no published file", {}
        if not self.session.reading:
            case = speed.live_case(self.session.profile, self.session.device)
            covers, device = f"{escape(case.name)}, timed here; {covers}", self.session.computes()
        return overview_banner("how-fast", self.session, covers, **device)

    def measure(self) -> Html:
        """Time a step, its parts, layers and alternatives on this machine; show the steps."""
        from IPython.display import clear_output

        session = self.session
        if session.reading:
            return html.box("<p>Nothing is timed here: the measurements below are published ones.</p>")
        self.live = speed.measure(
            [speed.live_case(session.profile, session.device)],
            session.device,
            effort=speed.LIVE.get(session.profile.key, speed.Effort()),
            parts=("steps", "layers", "tried"),
            seeds=session.seeds,
            command=session.command("how-fast"),
            progress=counted(1, 1),
        )
        clear_output()  # the progress lines
        return _tables([show.timings(self.live, self.live["cases"][0]["name"], HERE)])

    def steps(self) -> Html:
        """The steps of the published files, their parts and the reference loop."""
        return _tables(
            show.timings(found, case["name"], name)
            for name, found in self.files.items()
            for case in found["cases"]
        )

    def parts(self) -> Html:
        """A figure: where the time of a step goes."""
        rows = [
            {"what": f"{case['model']},\n{name}", "part": part, "milliseconds": 1e3 * seconds}
            for name, found in self.sources.items()
            for case in found["cases"]
            for part, seconds in derived.step_parts(derived.rows_of(found, case["name"])).items()
        ]
        frame = pd.DataFrame(rows, columns=["what", "part", "milliseconds"])
        alt = "; ".join(
            f"{what}: ".replace("\n", " ")
            + ", ".join(f"{row.part} {digits(row.milliseconds)} ms" for row in part.itertuples())
            for what, part in frame.groupby("what", sort=False)
        )
        caption = (
            "<b>Where the time of a step goes.</b> Parts are differences of medians over rounds: one within "
            "the noise can vanish. The number is their sum."
        )
        return svg.figure(draw.step_parts(frame), alt or "nothing to draw", caption, frame, "step-parts.csv")

    def loaders(self) -> Html:
        """The loaders, from the published files."""
        return _tables(show.timings(found, "loaders", name) for name, found in self.files.items())

    def roofline(self) -> Html:
        """A figure: layers of B-MLPs under the roof of each device."""
        frame = self.layers()
        fastest = frame.loc[frame.groupby("source", sort=False)["flops_per_second"].idxmax()]
        alt = "; ".join(
            f"{row.source}: width {row.width}, batch {row.batch} reaches {row.flops_per_second:.3g} FLOP/s"
            for row in fastest.itertuples()
        )
        caption = "<b>Layers under the roof</b>: one line per width, from small batches to large ones."
        return svg.figure(draw.layer_roofline(frame), alt or "nothing to draw", caption, frame, "layers.csv")

    def layers(self) -> pd.DataFrame:
        """The layers of every source, with the columns :data:`mlpstudy.bench.derived.LAYER`."""
        layers = {n: list(derived.layers(derived.rows_of(f, "layers"))) for n, f in self.sources.items()}
        rows = [(name, *layer) for name, found in layers.items() for layer in found]
        return pd.DataFrame(rows, columns=["source", *derived.LAYER])

    def targets(self) -> Html:
        """Every target with its verdict from each published file."""
        judged = {
            escape(name): {row["id"]: row for row in found["targets"]} for name, found in self.files.items()
        }
        rows = [
            {"what": escape(target.sentence) + small(escape(target.reason)), "target": escape(bounds(target))}
            | {name: verdict(found.get(target.id)) for name, found in judged.items()}
            for target in TARGETS
        ]
        verdicts = {name: [row["verdict"] for row in found.values()] for name, found in judged.items()}
        met = "; ".join(
            f"{name}: {all.count(MET)} met of {len(all) - all.count(NOT_MEASURED)} measured"
            for name, all in verdicts.items()
        )
        return _table(rows, f"<b>Targets</b>; {met or 'no published file'}", "what")

    def tried(self) -> Html:
        """Alternatives, each with its time over ours; then comparisons of revisions of the library."""
        found = {escape(name): dict(tried.results(f)) for name, f in self.sources.items()}
        found = {name: each for name, each in found.items() if each}
        rows = []
        for trial in dict.fromkeys(trial for each in found.values() for trial in each):
            instead = f"instead of {escape(trial.instead_of)}; {escape(trial.hope)}"
            ratios = {name: each.get(trial) for name, each in found.items()}
            rows.append(
                {"tried": escape(trial.name) + small(instead)} | {n: _over(r) for n, r in ratios.items()}
            )
        revisions = [table for found in self.comparisons.values() for table in show.tables(found)]
        caption = "<b>Time per image, as a multiple of ours</b>: median [quartiles] over rounds"
        return Html(_table(rows, caption, "tried") + (_tables(revisions) if revisions else ""))

    def precision(self) -> Html:
        """Test accuracy in bf16 and in float32, and the difference over seeds, from the published files."""
        return _tables((t for found in self.accuracies.values() for t in show.tables(found)), ACCURACY)

    def runs(self) -> Html:
        """The share of the matrix-product rate that the study's own training runs reached."""
        groups: dict[tuple[str, str, str], list[dict]] = {}
        for side, record in self.training_runs():
            key = side, record.spec.model.name, record.environment.get("device", "unknown")
            groups.setdefault(key, []).append(record.compute)
        rows = [
            dict(zip(("whose", "network", "device"), map(escape, key), strict=True))
            | {
                "runs": f"{len(found):,}",
                "images/s": f"{statistics.median(each['images_per_second'] for each in found):,.0f}",
                "share of the rate": show.spread(summary([each["matmul_fraction"] for each in found])),
            }
            for key, found in sorted(groups.items())
        ]
        caption = "<b>Training runs</b>, end to end: median [quartiles] over runs"
        nothing = "No training runs: nothing is published or finished."
        return html.table(rows, caption, "whose", "network", otherwise=nothing)

    def epochs(self) -> Html:
        """How long an epoch of ImageNet-21k takes at the rates measured, and took the paper."""
        rows = [
            _epoch("the paper", row, "NVIDIA RTX A5000", f"about {cell.value:g} {cell.unit}", cell.value)
            for (item, row, _), cell in paper.values().items()
            if item == "Section 4.5"
        ]
        for name, found in self.sources.items():
            for case in found["cases"]:
                number = derived.numbers_of(found, case["name"]).get("imagenet21k-epoch", {})
                if (case["image_shape"], case["batch_size"]) == PAPER_STEP and "value" in number:
                    device, time = found["machine"]["device"], show.value(number)
                    rows.append(_epoch(name, case["model"], device, time, number["value"]))
        return html.table(rows, "<b>An epoch of ImageNet-21k</b> in batches of 16,384", "whose", "network")

    def training_runs(self) -> Iterable[tuple[str, Record]]:
        """The finished runs that trained from random weights, each once, with the side they belong to."""
        for side, runs in self.session.finished().items():
            for record in different(runs):
                if record.spec.kind == "train" and record.compute.get("matmul_fraction"):
                    yield side, record

    def provenance(self) -> Html:
        """How each measurement was made."""
        rows = [_provenance(*each) for each in (self.sources | self.accuracies).items()]
        return _table(rows, "<b>How it was measured</b>", "measured")


def _epoch(whose: str, network: str, device: str, time: str, seconds: float) -> dict[str, str]:
    rate = f"{derived.IMAGENET21K_IMAGES / seconds:,.0f}"
    cells = {"whose": whose, "network": network, "device": device, "an epoch": time, "images/s": rate}
    return {name: escape(text) for name, text in cells.items()}


def _over(ratio: Mapping | None) -> str:
    return show.spread(ratio) + small(show.faster(ratio)) if ratio else "–"


def _provenance(name: str, found: Mapping) -> dict[str, str]:
    machine = found["machine"]
    packages = ("python", "torch", "torchvision", "ffcv", "numpy")
    versions = ", ".join(f"{name} {machine[name]}" for name in packages if machine.get(name))
    commit = (machine.get("commit") or "unknown")[:10]
    return {
        "measured": escape(name),
        "on": escape(f"{machine['device']}, {machine['precision']}"),
        "rounds": str(found.get("rounds", "–")),
        "took": duration(found["seconds"]),
        "with": escape(versions),
        "commit": f"<code>{commit}</code>" + (" + changes" if machine.get("dirty") else ""),
        "command": f"<code>{escape(found['command'])}</code>",
    }


def verdict(row: Mapping | None) -> str:
    """A target's cell, as HTML."""
    if row is None:
        return '<span class="mlp-muted">–</span>'
    look = VERDICT_CLASSES.get(row["verdict"], "not")
    text = f'<span class="mlp-verdict {look}">{escape(row["verdict"])}</span>'
    if "why" in row:
        return text + small(escape(row["why"]))
    value = f"{digits(row['value'])} {row['unit']}".rstrip()
    between = f"half of the rounds {digits(row['q25'])} to {digits(row['q75'])}"
    return text + f'<span class="mlp-number">{escape(value)}</span>' + small(escape(between))


def _tables(tables: Iterable[show.Table], command: str = COMMAND) -> Html:
    """Tables as HTML, without empty ones, or the command that makes them."""
    texts = []
    for title, frame in tables:
        if len(frame):
            rows = frame.rename(columns=escape).map(escape).to_dict("records")
            texts.append(html.table(rows, escape(title), escape(frame.columns[0])))
    return Html("".join(texts)) if texts else _table([], "", "", command=command)


def _table(rows: list[dict[str, str]], caption: str, *row_headers: str, command: str = COMMAND) -> Html:
    """A table of HTML cells, or the command that measures what would be in it."""
    hint = f"No published measurement: make one with <code>{escape(command)}</code>."
    return html.table(rows, caption, *row_headers, otherwise=hint)
