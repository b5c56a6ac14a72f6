"""The architectures drawn by code (what the paper's Fig 2-4 show), from images, shapes and model specs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from mlplib.errors import MlplibError
from mlplib.specs import ModelSpec

from .look import BLUE, GOLD, GRID, INK, MUTED, SKY, WIDTH, new_figure, styled

NORM_NAMES = {"layer": "LayerNorm", "batch": "BatchNorm"}
ACTIVATION_NAMES = {"gelu": "GELU", "relu": "ReLU"}


# --------------------------------------------------------------------------- inputs


@styled
def patches_and_pixels(image: np.ndarray, patch: int = 4) -> Figure:
    """One image as networks get it: cut into patches, and as the flat list of pixels that an MLP reads.

    Args:
        image: uint8 (H, W, 3). patch: side of a patch in pixels; it divides H and W.
    """
    height, width, _ = image.shape
    if height % patch or width % patch:
        raise MlplibError(f"patches of {patch} pixels do not tile an image of {height} x {width}")
    figure = Figure(figsize=(WIDTH, 3.7))
    parts = figure.subplot_mosaic([["image", "patches"], ["pixels", "pixels"]], height_ratios=(3, 1.15))
    for axes in parts.values():
        axes.set_axis_off()
    parts["image"].imshow(image, interpolation="none")
    parts["image"].set_title("the image")
    parts["patches"].imshow(_with_gaps(image, patch), interpolation="none")
    parts["patches"].set_title("in patches (ViT, Mixer)")
    parts["pixels"].imshow(_as_strips(image), interpolation="none", aspect="auto")
    parts["pixels"].set_title("all pixels in one row, here broken into four lines (MLP)")
    return figure


def _with_gaps(image: np.ndarray, patch: int) -> np.ndarray:
    """The image's patches a little apart, on white."""
    out = image
    for axis in (0, 1):
        places = np.arange(patch, image.shape[axis], patch)
        out = np.insert(out, places, 255, axis=axis)
    return out


def _as_strips(image: np.ndarray, lines: int = 4) -> np.ndarray:
    """The pixels row after row, in ``lines`` long lines with white between them."""
    flat = image.reshape(lines, -1, 3)
    white = np.full_like(flat, 255)
    return np.stack((flat, white), axis=1).reshape(2 * lines, -1, 3)[:-1]


# --------------------------------------------------------------------------- wiring


@styled
def wiring(patches: int = 5, channels: int = 4) -> Figure:
    """The matrices by which a Mixer and an MLP map all inputs to all outputs, for a small network.

    Inputs and outputs are ordered by patch, then by channel. Each color is one trained number: a Mixer
    repeats its few numbers and is zero at the white places; an MLP has its own number at every place.
    """
    rng = np.random.default_rng(0)
    tokens, mixing = rng.uniform(0.1, 1, (patches, patches)), rng.uniform(0.1, 1, (channels, channels))
    size = patches * channels
    matrices = {
        "Mixer:\nbetween patches": (np.kron(tokens, np.eye(channels)), tokens.size),
        "Mixer:\nbetween channels": (np.kron(np.eye(patches), mixing), mixing.size),
        "MLP:\neverything": (rng.uniform(0.1, 1, (size, size)), size * size),
    }
    figure, (row,) = new_figure(1, 3, height=2.55)
    for axes, (name, (matrix, numbers)) in zip(row, matrices.items(), strict=True):
        axes.imshow(np.ma.masked_equal(matrix, 0), cmap="viridis", vmin=0, vmax=1, interpolation="none")
        for place in range(channels, size, channels):
            axes.axhline(place - 0.5, color=GRID, linewidth=0.6)
            axes.axvline(place - 0.5, color=GRID, linewidth=0.6)
        axes.set_title(f"{name}\n({numbers} numbers)")
        axes.set_xlabel("input")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[["top", "right"]].set_visible(True)
    row[0].set_ylabel("output")
    return figure


# --------------------------------------------------------------------------- blocks


@styled
def blocks(*specs: ModelSpec) -> Figure:
    """One block of each MLP, bottom to top as data flows. The width of a box is that of its output."""
    most = max(len(steps(spec)) for spec in specs)
    widest = max(width for spec in specs for _, width in steps(spec))
    figure, (row,) = new_figure(1, len(specs), height=1.1 + 0.62 * most, width=WIDTH / 2 * len(specs))
    for axes, spec in zip(row, specs, strict=True):
        _block(axes, spec, widest, most)
    return figure


def steps(spec: ModelSpec) -> list[tuple[str, int]]:
    """The layers of one block in order: name, and the output's width in units of the model's width.

    Raises:
        MlplibError: the model has no such blocks.
    """
    activation = (ACTIVATION_NAMES[spec.activation], 1)
    if spec.family == "b-mlp":
        k = spec.expansion
        inside = [(f"Linear m → {k}m", k), (activation[0], k), (f"Linear {k}m → m", 1)]
    elif spec.family == "s-mlp":
        linear = ("Linear m → m", 1)
        inside = [activation, linear] if spec.official_order else [linear, activation]
    else:
        raise MlplibError(f"{spec} has no blocks to draw: choose a B-MLP or an S-MLP")
    if spec.norm == "none":
        return [*inside, ("add", 1)] if spec.skip else inside
    norm = [(NORM_NAMES[spec.norm], 1)]
    before, after = (norm, []) if spec.norm_position == "pre" else ([], norm)
    return [*before, *inside, *([("add", 1)] if spec.skip else []), *after]


def _block(axes, spec: ModelSpec, widest: int, most: int) -> None:
    axes.set_axis_off()
    reach = _box_width(widest) / 2 + 0.3
    axes.set_xlim(-reach - 0.1, reach + 0.1)
    axes.set_ylim(-1.0, most + 0.1)
    axes.set_title(f"{spec}, one of {spec.depth} blocks", loc="center")
    below = -0.55
    axes.text(0, -0.75, "z", ha="center", va="center", style="italic")
    for place, (name, width) in enumerate(steps(spec)):
        _arrow(axes, (0, below), (0, place - (0.16 if name == "add" else 0.29)))
        if name == "add":
            axes.plot(0, place, "o", markersize=17, markerfacecolor="white", markeredgecolor=INK)
            axes.text(0, place, "+", ha="center", va="center", fontsize=13)
            _arrow(axes, (0, -0.42), (0.16, place), around=reach)
        else:
            _box(axes, place, name, width)
        below = place + (0.2 if name == "add" else 0.29)
    _arrow(axes, (0, below), (0, below + 0.5))


def _box_width(width: int) -> float:
    return 1.4 + 0.5 * width  # room for the text, then to scale


def _box(axes, place: float, name: str, width: int) -> None:
    color = BLUE if name.startswith("Linear") else SKY if name.endswith("LU") else GOLD
    wide = _box_width(width)
    shape = "round,pad=0.02,rounding_size=0.06"
    corner = (-wide / 2, place - 0.25)
    axes.add_patch(FancyBboxPatch(corner, wide, 0.5, boxstyle=shape, facecolor=color, linewidth=0))
    axes.text(0, place, name, ha="center", va="center", fontsize=10, color="white" if color == BLUE else INK)


def _arrow(axes, start, end, around: float | None = None) -> None:
    """An arrow straight up, or, for a skip connection, out to ``around``, up, and back in."""
    look = dict(arrowstyle="-|>", mutation_scale=9, color=MUTED, linewidth=1.2, shrinkA=0, shrinkB=0)
    if around is not None:
        side = -around
        axes.plot([start[0], side, side], [start[1], start[1], end[1]], color=MUTED, linewidth=1.2)
        start, end = (side, end[1]), (-end[0], end[1])
    axes.add_patch(FancyArrowPatch(start, end, **look))
