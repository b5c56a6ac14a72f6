"""The study as a graph: notebooks -> chapters -> book. `make book` calls this; so can you.

    snakemake --cores all                                   every chapter and the book, in profile laptop
    snakemake --cores all --config profile=published        read the published records, train nothing
    snakemake --cores all --config profile=gpu seeds=0,1    another profile, other seeds than the profile's
    snakemake --cores all --config profile=smoke out=build/smoke    into another folder
    snakemake --cores all --config official_checkpoints=DIR the weights that the paper's authors published, too
    snakemake --cores all --config workers=0 -- book/chapters/filters.ipynb    one chapter and its runs only
    snakemake --profile profiles/slurm --config profile=gpu workers=8   on a Slurm cluster: eight jobs do the runs, then
                                                            every chapter is a job (book/cluster.md)

A chapter is rendered again when its notebook, the library, its published records or the profile changed. What was
trained before is not trained again: the library finds its runs.
"""

import functools
import json
import math
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))
from mlpstudy.book import check as checks
from mlplib import limits
from mlplib.errors import MlplibError
from mlplib.files import require_folder, storage_errors, wait_for
from mlpstudy.book.execute import OVERVIEWS, names, unlisted
from mlpstudy.book.jobs import forward_signals
from mlpstudy.book.parameters import CheckpointParameters, of_notebook, parse
from mlpstudy.book.render import repository
from mlpstudy.evidence.records import fingerprint, results_folder

NAMES = CheckpointParameters.model_fields
OTHERS = ("out", "workers", "minutes", "threads", "quiet")
if unknown := sorted(config.keys() - NAMES.keys() - set(OTHERS)):
    sys.exit(f"make: unknown setting {unknown[0]!r} in --config: choose from {', '.join([*NAMES, *OTHERS[:-1]])}")
if empty := [name for name, value in config.items() if value is None]:  # mostly of variables that are not set
    sys.exit(f"make: nothing follows {empty[0]}= in --config: write something there, or leave it out")
PARAMETERS = {"profile": "laptop"} | {name: config[name] for name in NAMES if name in config}
if isinstance(PARAMETERS.get("seeds"), list):  # Snakemake reads seeds=[0,1] as a list of texts
    PARAMETERS["seeds"] = ",".join(map(str, PARAMETERS["seeds"]))
SOURCE = Path(os.path.relpath(ROOT, os.getcwd()))  # relative, so that a moved folder is still up to date

PAGES = checks.pages_of(ROOT / "book")

try:
    CORES = workflow.cores
except WorkflowError:  # on a cluster, where nobody says --cores
    CORES = None
# A cluster needs --jobs, which no dry run drops; one machine takes it for --cores. Within a cluster's job the cores are
# the node's, not the job's.
CLUSTER = CORES is None or workflow.nodes is not None or workflow.remote_exec

# The number of jobs that together do the runs before the chapters, and the minutes that each may take. On one machine
# it is one job, which keeps all cores busy; the runs of smoke are too small for that, and published has none.
QUICK = PARAMETERS["profile"] in ("smoke", "published")
try:
    COUNT = int(str(config.get("workers", 0 if CLUSTER or QUICK else 1)))
    MINUTES = int(str(config.get("minutes", 1435)))
    THREADS = int(str(config.get("threads", 8)))
    if COUNT < 0 or MINUTES < 1 or THREADS < 1:
        raise ValueError
except ValueError:
    sys.exit("make: workers, minutes and threads must be whole numbers, such as workers=8 minutes=55 threads=8")
THREADS = THREADS if CLUSTER else CORES

CHAPTER_BYTES = 2**30
# Cores that a chapter takes where several are executed at once: more than one if memory is too small for one per core.
SHARE = 1 if CLUSTER else math.ceil(CORES / max(1, limits.memory() // CHAPTER_BYTES))


def in_use():
    raise MlplibError(f"another make or snakemake is making {OUT}: wait until it has ended, or stop it")


CHECKPOINTS = []
try:
    if not isinstance(out := config.get("out", "book"), str):  # Snakemake makes 20261130 of out=2026_11_30
        raise MlplibError(
            f"out must be the path of a folder, not {out}, which Snakemake made of the name: write ./ before it"
        )
    OUT = require_folder(Path(out), "out")
    NOTEBOOKS = sorted(names())
    checked = parse(PARAMETERS, CheckpointParameters)
    for name in ("runs_dir", "results_dir", "official_checkpoints"):
        if getattr(checked, name) is not None:  # runs and chapters are done in the folder of the sources
            PARAMETERS[name] = os.path.abspath(os.path.expanduser(getattr(checked, name)))
    RESULTS = results_folder(PARAMETERS.get("results_dir"))
    if checked.official_checkpoints is not None:
        from mlplib.official import candidates  # here, since torch takes seconds to import

        CHECKPOINTS = [str(path) for path in candidates(PARAMETERS["official_checkpoints"])]
    # What chapters are made with, as a file beside them: Snakemake's own records of that do not move with a folder,
    # and without them it would take the chapters of another profile for these.
    SETTINGS = OUT / "_build/settings.json"
    text = json.dumps({name: value for name, value in PARAMETERS.items() if name != "official_checkpoints"})
    with storage_errors(SETTINGS, "out"):
        SETTINGS.parent.mkdir(parents=True, exist_ok=True)
        if workflow.is_main_process:
            LOCK = open(SETTINGS.with_name("make.lock"), "w")  # until this process ends, however it does
            wait_for(LOCK, in_use)  # which ends this instead of waiting
        if not SETTINGS.is_file() or SETTINGS.read_text(encoding="utf-8") != text:
            SETTINGS.write_text(text, encoding="utf-8")
except MlplibError as error:
    sys.exit(f"make: {error}")  # one line, before the first notebook starts

WORKERS = [OUT / f"_build/workers/{number}" for number in range(COUNT)]

forward_signals()
if unlisted():
    print(f"passed over: {', '.join(unlisted())} (not notebooks of the study)", file=sys.stderr)

if config.get("quiet"):
    # Every rule below prints what it does and why it failed. The rest goes to Snakemake's log file.
    SAID = ("CalledProcessError", "Exiting because a job execution failed", "At least one job did not complete")
    for handler in logger.handlers:
        handler.setLevel("WARNING")
        handler.addFilter(lambda record: not any(text in record.getMessage() for text in SAID))


LIBRARY = sorted(
    str(SOURCE / path.relative_to(ROOT))
    for name in ("mlplib", "mlpstudy")
    for path in (ROOT / name).rglob("*")
    if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
)

RECORDS, MEASUREMENTS = (
    sorted(os.path.relpath(path) for path in RESULTS.glob(pattern)) for pattern in ("*/runs.jsonl", "bench/*.json")
)


def records(wildcards):
    """The published files that an overview shows: all records, and for how-fast the measurements, too."""
    if wildcards.name not in OVERVIEWS:
        return []  # its records are picked from those of all experiments, see shown_records
    return RECORDS + (MEASUREMENTS if wildcards.name == "how-fast" else [])


def shown_records(wildcards):
    """A hash of the published records that a chapter of one experiment shows. A chapter is rendered again when
    this parameter of its rule changes, and not when other experiments' records in the same file do.
    """
    return "" if wildcards.name in OVERVIEWS else records_of(wildcards.name)


@functools.cache  # Snakemake asks for a job's parameters twice
def records_of(name):
    try:
        return fingerprint(name, RESULTS)
    except MlplibError as error:  # the chapter stops with the same line
        return str(error)


def takes(wildcards, parameter):
    """Whether a chapter's notebook has that parameter."""
    return parameter in of_notebook(wildcards.name).model_fields


def official(wildcards):
    """The files of official weights that a chapter starts from."""
    return CHECKPOINTS if takes(wildcards, "official_checkpoints") else []


def earlier_chapters(wildcards):
    """The chapters that an overview waits for: overviews show the runs of all others. In published nothing is run,
    and the scoreboard, which takes longest, need not wait.
    """
    last = wildcards.name in OVERVIEWS and PARAMETERS["profile"] != "published"
    return [OUT / "chapters" / f"{name}.ipynb" for name in NOTEBOOKS if last and name not in OVERVIEWS]


onerror:
    for line in checks.failures(OUT):
        print(f"book: {line}", file=sys.stderr)


wildcard_constraints:
    name="[a-z0-9-]+",


# Targets, too: Snakemake does not miss what was deleted if all that is made from it is up to date.
PARTS = [OUT / "chapters" / name for name in ("front.md", *(f"{name}.ipynb" for name in NOTEBOOKS))]
PARTS += [OUT / page for page in PAGES]


rule all:
    input:
        OUT / "_build/html/index.html",
        PARTS,


rule worker:
    input:
        SETTINGS,
        LIBRARY,
    output:
        touch(OUT / "_build/workers/{number}"),
    params:
        profile=PARAMETERS["profile"],
        root=str(SOURCE),
        options=[
            f"--{option}={PARAMETERS[name]}"
            for name, option in (("seeds", "seeds"), ("runs_dir", "runs"), ("device", "device"))
            if name in PARAMETERS
        ],
    threads: THREADS
    resources:
        runtime=MINUTES + 5,
    shell:
        # Chapters report runs that failed, so only a signal makes this job fail.
        "echo 'runs: doing what is missing in profile {params.profile}';"
        " cd {params.root:q} && {sys.executable:q} -m mlplib run --profile {params.profile:q} {params.options:q}"
        " --minutes {MINUTES} || [ $? -lt 128 ]"


rule chapter:
    input:
        WORKERS,
        earlier_chapters,
        records,
        official,
        SETTINGS,
        LIBRARY,
        notebook=SOURCE / "notebooks/{name}.ipynb",
    output:
        OUT / "chapters/{name}.ipynb",
    log:
        # Kept when the notebook fails: it then ends with the cell that failed.
        OUT / "_build/executed/{name}.ipynb",
    params:
        profile=PARAMETERS["profile"],
        root=str(SOURCE),
        shown_records=shown_records,
        others=lambda wildcards: [
            f"--parameter={name}={value}"
            for name, value in PARAMETERS.items()
            if name != "profile" and takes(wildcards, name)
        ],
        executed=lambda wildcards: os.path.relpath(OUT / "_build/executed" / f"{wildcards.name}.ipynb", ROOT),
    # Chapters that have runs to do, or measure time, take turns on one machine.
    threads: lambda wildcards: SHARE if QUICK or (WORKERS and not CLUSTER and wildcards.name != "how-fast") else THREADS
    shell:
        "echo 'chapter {wildcards.name}: executing in profile {params.profile}';"
        " rm -f {log:q} && (cd {params.root:q} && {sys.executable:q} -m mlplib notebook {wildcards.name}"
        " --profile {params.profile:q} {params.others:q} --out {params.executed:q})"
        " && cp {log:q} {output:q}"


if OUT.resolve() != ROOT / "book":

    rule pages:
        input:
            [SOURCE / "book" / page for page in PAGES],
        output:
            [OUT / page for page in PAGES],
        params:
            source=str(SOURCE / "book"),
            out=str(OUT),
        shell:
            "for page in {PAGES:q}; do cp {params.source:q}/\"$page\" {params.out:q}/\"$page\"; done"


rule front:
    input:
        RECORDS,
        LIBRARY,
    output:
        OUT / "chapters/front.md",
    params:
        out=os.path.relpath(OUT, ROOT),
        root=str(SOURCE),
        results=[os.path.relpath(RESULTS, ROOT)] if "results_dir" in PARAMETERS else [],
    shell:
        "cd {params.root:q} && {sys.executable:q} -m mlpstudy.book.page_front {params.out:q} {params.results:q}"


rule book:
    input:
        PARTS,
    output:
        OUT / "_build/html/index.html",
    log:
        OUT / "_build/book.log",
    params:
        out=os.path.relpath(OUT, ROOT),
        root=str(SOURCE),
        repository=repository(),  # the buttons depend on the remote
    shell:
        "echo 'book: rendering';"
        " cd {params.root:q} && {sys.executable:q} -m mlpstudy.book.render {params.out:q}"
