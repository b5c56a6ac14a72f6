"""Checks that specs make of themselves: each refuses with one line that names the setting."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing

from ..errors import MlplibError


def finite(value) -> bool:
    """Whether ``value`` is a number, no bool, that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


@functools.cache
def _hints(cls: type) -> dict:
    """The annotated types of a spec's fields, cached: a plan makes thousands of specs of a few classes."""
    return typing.get_type_hints(cls)


def check_types(spec) -> None:
    """Refuse values whose type is not the annotated one (``int`` is accepted for ``float``)."""
    hints = _hints(type(spec))
    for field in dataclasses.fields(spec):
        value, hint = getattr(spec, field.name), hints[field.name]
        accepted = tuple(typing.get_origin(h) or h for h in typing.get_args(hint) or (hint,))
        if typing.get_origin(hint) is tuple:
            accepted = (tuple,)
        if float in accepted:
            accepted += (int,)
        wrong_bool = isinstance(value, bool) and bool not in accepted
        if wrong_bool or not isinstance(value, accepted):
            wanted = getattr(hint, "__name__", str(hint))
            raise MlplibError(
                f"{type(spec).__name__}.{field.name} must be {wanted}, not {value!r} ({type(value).__name__})"
            )
        if float in accepted and isinstance(value, (int, float)) and not finite(value):
            raise MlplibError(f"{type(spec).__name__}.{field.name} must be finite, not {value!r}")


def at_least(spec, low, *names: str) -> None:
    """Refuse a value below ``low``; None stands for no value."""
    for name in names:
        value = getattr(spec, name)
        if value is not None and value < low:
            raise MlplibError(f"{type(spec).__name__}.{name} must be at least {low}, not {value!r}")


def check_range(spec, low, high, *names: str) -> None:
    """Refuse a value outside [low, high)."""
    at_least(spec, low, *names)
    for name in names:
        value = getattr(spec, name)
        if value >= high:
            raise MlplibError(f"{type(spec).__name__}.{name} must be below {high}, not {value!r}")


def below_one(spec, *names: str) -> None:
    """Refuse a value outside [0, 1)."""
    for name in names:
        value = getattr(spec, name)
        if not 0 <= value < 1:
            raise MlplibError(f"{type(spec).__name__}.{name} must lie in [0, 1), not {value!r}")


def refuse_idle(spec, where: str, names: tuple[str, ...]) -> None:
    """Refuse a setting that would be ignored: it would only make two ids of one run."""
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    for name in names:
        if getattr(spec, name) != defaults[name]:
            raise MlplibError(f"{type(spec).__name__}.{name} means nothing with {where}: leave it out")


def as_tuple(spec, *names: str) -> None:
    """JSON and YAML know lists only; store them as tuples so that specs stay hashable."""
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, list):
            object.__setattr__(spec, name, tuple(value))
