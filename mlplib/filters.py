"""First-layer weights as images, and how local and how smooth these filters are (Fig 11, 12)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import MlplibError

UNITS_SHOWN = 25


def as_filters(weight: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """First-layer weights (m, 3 * H * W) as float64 filters (m, H, W, 3).

    Raises:
        MlplibError: the sizes do not fit.
    """
    h, w, c = image_shape
    if weight.ndim != 2 or weight.shape[1] != h * w * c:
        raise MlplibError(f"a first layer over {h}x{w}x{c} images has {h * w * c} inputs, not {weight.shape}")
    return weight.astype(np.float64).reshape(-1, c, h, w).transpose(0, 2, 3, 1)


def locality(filters: np.ndarray) -> np.ndarray:
    """How concentrated in space each filter's energy is: 0 when spread like noise, 1 when in a single pixel.

    With e(p) the squared weights at pixel p, summed over channels and scaled to sum to 1, and r the
    root mean square distance from e's center of mass, ``locality = 1 - r / r_uniform``, where
    r_uniform is r of a constant e. (Energy gathered at opposite edges can be more spread than a
    constant: the value is then below 0.)

    Args:
        filters: float (m, H, W, 3).
    Returns:
        float64 (m,).
    """
    energy = (filters**2).sum(axis=3)
    _, h, w = energy.shape
    total = energy.sum(axis=(1, 2), keepdims=True)
    energy = np.divide(energy, total, out=np.full_like(energy, 1 / (h * w)), where=total > 0)
    spread = sum(_variance(energy.sum(axis=other)) for other in (1, 2))
    uniform = (h**2 - 1) / 12 + (w**2 - 1) / 12
    return 1 - np.sqrt(spread / uniform)


def _variance(mass: np.ndarray) -> np.ndarray:
    """Variance of the position under each row of ``mass`` (m, n), which sums to 1."""
    position = np.arange(mass.shape[1])
    from_mean = position - (mass @ position)[:, None]
    return (mass * from_mean**2).sum(axis=1)


def smoothness(filters: np.ndarray) -> np.ndarray:
    """Correlation of each filter's neighboring weights: 0 for noise, toward 1 for smooth structure.

    Pearson correlation over all horizontally and vertically adjacent pixel pairs, channels pooled.

    Args:
        filters: float (m, H, W, 3).
    Returns:
        float64 (m,); 0 for a constant filter.
    """
    m = len(filters)
    first = [part.reshape(m, -1) for part in (filters[:, :-1], filters[:, :, :-1])]
    second = [part.reshape(m, -1) for part in (filters[:, 1:], filters[:, :, 1:])]
    # Both orders of each pair, so that the correlation does not depend on which pixel comes first.
    a, b = np.concatenate(first + second, axis=1), np.concatenate(second + first, axis=1)
    rounding = 1e-24 * (a * a).sum(axis=1)
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    variance = (a * a).sum(axis=1)
    return np.divide((a * b).sum(axis=1), variance, out=np.zeros(m), where=variance > rounding)


def mosaic(filters: np.ndarray) -> np.ndarray:
    """The first filters as the paper draws them: maximum over channels, each scaled to its range.

    Args:
        filters: float (m, H, W, 3).
    Returns:
        uint8 (:data:`UNITS_SHOWN`, H, W); fewer if there are fewer filters.
    """
    shown = filters[:UNITS_SHOWN].max(axis=3)
    low, high = (f(shown, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    return np.rint(255 * (shown - low) / np.maximum(high - low, 1e-30)).astype(np.uint8)


def describe(filters: np.ndarray) -> dict[str, int | float]:
    """Mean, spread and quartiles over all filters of :func:`locality` and :func:`smoothness`, as metrics."""
    found: dict[str, int | float] = {"units": len(filters)}
    for name, values in (("locality", locality(filters)), ("smoothness", smoothness(filters))):
        found |= {name: float(values.mean()), f"{name}_std": float(values.std())}
        quartiles = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
        found |= zip((f"{name}_q25", f"{name}_median", f"{name}_q75"), quartiles, strict=True)
    return found


def load_mosaic(path: Path) -> np.ndarray:
    """A stored mosaic, uint8 (units, H, W).

    Raises:
        MlplibError: the file is missing or damaged.
    """
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MlplibError(f"cannot read the filters in {path} ({error}): run the experiment again") from None
