"""mlplib data: get, list, check and export the data sets."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mlplib.errors import MlplibError
from mlplib.files import require_folder
from mlplib.progress import bars

from .options import out

_log = logging.getLogger("mlplib")

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

app = typer.Typer(help="Get, list, check and export the data sets.", no_args_is_help=True)


@app.command("list")
def list_():
    """List every data set, and your own folders in the cache, with size and whether it is here already."""
    from mlplib.data import catalog
    from mlplib.data.get import real

    table = Table(
        title="Data sets",
        title_justify="left",
        caption="To get one: mlplib data prepare <name>, or a folder of your own",
        caption_justify="left",
    )
    for heading in ("name", "what", "train", "test", "size", "here"):
        table.add_column(heading, no_wrap=heading not in ("what", "here"), overflow="fold")
    found = [(catalog.find(name), catalog.find_base(name), "no") for name in catalog.CATALOG]
    found += [(own, own, "damaged") for own in catalog.OwnFolder.all_known()]
    for entry, base, otherwise in found:
        ready = isinstance(base, catalog.Drawn) or base.cached
        here = "yes" + _without_skipped(base.name) if ready else otherwise
        sizes = f"{entry.train:,}", f"{entry.test:,}", f"{entry.image_size} px"
        table.add_row(entry.name, entry.title, *sizes, here)
    table.add_row(real.NAME, real.TITLE, "", f"{real.IMAGES:,}", "", "yes" if real.find() else "no")
    out.print(table)


def _without_skipped(name: str) -> str:
    """What to add to a line about a prepared data set whose unreadable images were left out."""
    from mlplib.data.get import cache

    skipped = cache.preparation(name).get("skipped")
    return f", without {skipped} unreadable images" if skipped else ""


NamesOrFolders = Annotated[
    list[str],
    typer.Argument(
        help="Data sets by name, e.g. cifar10; or folders that hold train/<class>/ and val/<class>/ "
        "(or test/<class>/) with image files."
    ),
]
ResolutionOption = Annotated[int | None, typer.Option(help="Of folders: the side in pixels that images get.")]


@app.command("prepare")
def prepare(
    names: NamesOrFolders,
    resolution: ResolutionOption = None,
    skip_unreadable: Annotated[
        bool,
        typer.Option(
            "--skip-unreadable", help="Leave out image files that cannot be read. Their number is recorded."
        ),
    ] = False,
):
    """Get data sets and keep them, checked, in the cache ($MLPLIB_CACHE, else ~/.cache/mlplib)."""
    from mlplib.data.get import real

    for name in names:
        if name == real.NAME:
            if resolution is not None or skip_unreadable:
                raise MlplibError(f"{name} are labels: leave --resolution and --skip-unreadable out")
            real.keep()
        else:
            name = by_name_or_folder(name, resolution, bars(), skip_unreadable).name
        out.print(f"{name} is ready" + _without_skipped(name))


@app.command("beton")
def beton(
    names: NamesOrFolders,
    resolution: ResolutionOption = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="As for prepare, which is done first where needed.")
    ] = False,
):
    """Write data sets as FFCV files, once, so that runs can stream them (run --loader)."""
    from mlplib.data import beton

    beton.require()
    for name in names:
        dataset = by_name_or_folder(name, resolution, bars(), skip_unreadable)
        folder = beton.write(dataset, bars())
        out.print(f"{dataset.name} is ready to be streamed: {folder}", soft_wrap=True)


def by_name_or_folder(text: str, side: int | None, progress, skip_unreadable: bool = False):
    """Load a data set of the catalog, or a folder at ``side`` pixels.

    Raises:
        MlplibError: as :func:`mlplib.data.load` and :func:`mlplib.data.get.own.load_folder`; ``side`` for a
            data set that has its own, or none for a folder.
    """
    from mlplib.data import CATALOG, catalog, load
    from mlplib.data.get import own

    if text in CATALOG or not os.path.isdir(text):  # unlike Path.is_dir, false for names that are too long
        known = text in CATALOG or catalog.OwnFolder.side_of(text)
        if os.sep in text or (side is not None and not known):
            raise MlplibError(f"there is no folder {text}: name one that exists, or a data set")
        if side is not None:
            raise MlplibError(f"--resolution is for folders, and {text} is none: leave it out")
        if os.path.isdir(text):
            _log.warning("%s is the data set of that name; the folder here is ./%s", text, text)
        return load(text, progress, skip_unreadable=skip_unreadable)
    if side is None:
        raise MlplibError(f"say how many pixels a side the images of {text} get, e.g. --resolution 64")
    return own.load_folder(Path(text), side, progress, skip_unreadable)


@app.command("export")
def export(
    names: Annotated[list[str], typer.Argument(help="Data sets by name, e.g. cifar10.")],
    out_folder: Annotated[
        Path, typer.Option("--out", help="A folder; each data set gets a subfolder of its name.")
    ],
    shard_size: Annotated[
        str, typer.Option(help="The most bytes per file, e.g. 500K, 50M or 1G (1M is 2**20 bytes).")
    ] = "500M",
):
    """Write data sets as parquet files in the Hugging Face layout, for other machines and programs.

    Copy the folder there and set MLPLIB_DATA to it.
    """
    from mlplib.data.get import export

    out_folder = require_folder(out_folder, "--out")
    shard_bytes = parse_size(shard_size)
    wanted = {name: export.exported_name(name) for name in names}
    for name, source in wanted.items():
        if source is None:
            out.print(f"{name} is drawn wherever it is needed: nothing to export")
        elif source != name:
            out.print(f"{name} consists of classes of {source}, which is exported")
    for source in dict.fromkeys(source for source in wanted.values() if source):
        done = export.export(source, out_folder, shard_bytes, bars())
        content = "original files" if done.original else "prepared images"
        out.print(f"{source}: {done.shards} shards with {content} in {done.folder}", soft_wrap=True)


def parse_size(text: str) -> int:
    """A number of bytes from a text such as ``500K``, ``50M`` or ``1G``; K is 1,024 bytes.

    Raises:
        MlplibError: it is none, or zero.
    """
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)", text.strip().upper(), flags=re.ASCII)
    size = int(found[1]) * UNITS[found[2]] if found else 0
    if not size:
        raise MlplibError(f"a size is a number of bytes such as 500K, 50M or 1G, not {text!r}")
    return size


@app.command("verify")
def verify(names: Annotated[list[str], typer.Argument(help="Data sets by name.")]):
    """Read the cached copies whole and compare them with their known hashes."""
    from mlplib.data.get.verify import verify

    differs = False
    for name in names:
        for check in verify(name):
            ok = check.found == check.expected
            state = "ok" if ok else f"WRONG: {check.found} instead of {check.expected}"
            out.print(f"{name}: {check.what}: {state}")
            differs |= not ok
    if differs:
        raise MlplibError("the data differ from what is known of them: see the lines above")
