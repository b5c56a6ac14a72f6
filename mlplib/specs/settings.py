"""Settings that check themselves: frozen dataclasses whose fields declare which values they take."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import types
import typing
from collections.abc import Callable

from ..errors import MlplibError

WORDS = {int: "a whole number", float: "a finite number"}
BOUNDS = {
    "least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "below": ("below", operator.lt),
}

LARGEST = {int: 10**9, float: 2.0**127}
"""Where a setting declares nothing else, its number is below this: torch takes none that is much larger."""


def setting(default=dataclasses.MISSING, **declared):
    """A field of a :class:`Settings` class.

    Args:
        default: its default; without one, a value must be given.
        declared: ``least``, ``above``, ``below``: bounds of a number, or of each number of a tuple;
            ``choices``: the only values it takes; ``later=True``: the field was added after records had been
            published, so at its default it stays out of the JSON form, and older runs keep their ids.
    """
    return dataclasses.field(default=default, metadata=declared)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Refuses values of the wrong type or outside of what their fields declare.

    ``int`` is accepted for ``float``, and NumPy's numbers for Python's. Lists become tuples, since JSON and
    YAML know lists only.

    Raises:
        MlplibError: the line names the setting.
    """

    def __post_init__(self):
        for field, hint, fits in _typed_fields(type(self)):
            value = getattr(self, field.name)
            if not fits(value):
                value = plain(value)
                object.__setattr__(self, field.name, value)
            if not fits(value):
                self.refuse(
                    field.name, WORDS.get(hint) or (hint.__name__ if type(hint) is type else str(hint))
                )
            if value is not None and field.metadata:
                self._check_declared(field, value)

    def _check_declared(self, field: dataclasses.Field, value) -> None:
        choices = field.metadata.get("choices")
        if choices is not None and value not in choices:
            self.refuse(field.name, f"one of {', '.join(choices)}")
        for number in value if isinstance(value, tuple) else (value,):
            largest = LARGEST.get(type(number))
            for name, (words, holds) in BOUNDS.items():
                bound = field.metadata.get(name, largest if name == "below" else None)
                if bound is not None and not holds(number, bound):
                    self.refuse(field.name, f"{words} {bound}")

    def refuse(self, name: str, wanted: str) -> typing.NoReturn:
        """Say in one line what a setting must be."""
        raise MlplibError(f"{type(self).__name__}.{name} must be {wanted}, not {getattr(self, name)!r}")

    def refuse_ignored(self, where: str, *names: str) -> None:
        """Refuse a setting that would be ignored, unless it has its default: one run would get two ids."""
        for field in dataclasses.fields(self):
            if field.name in names and getattr(self, field.name) != field.default:
                raise MlplibError(
                    f"{type(self).__name__}.{field.name} means nothing with {where}: leave it out"
                )

    def to_json(self) -> dict:
        """The settings as plain JSON values; :meth:`from_json` reads them back."""
        found = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (field.metadata.get("later") and value == field.default):
                found[field.name] = _plain(value, real="float" in str(field.type))
        return found

    @classmethod
    def from_json(cls, values: dict):
        """The inverse of :meth:`to_json`.

        Raises:
            MlplibError: a setting is missing, unknown or refused.
        """
        hints = {field.name: hint for field, hint, _ in _typed_fields(cls)}
        needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}
        if missing := sorted(needed - values.keys()):
            raise MlplibError(f"{cls.__name__} lacks {', '.join(missing)}")
        if unknown := sorted(values.keys() - hints.keys()):
            raise MlplibError(
                f"{cls.__name__} has no setting {unknown[0]!r}: choose from {', '.join(sorted(hints))}"
            )
        return cls(**{name: _from_plain(value, hints[name]) for name, value in values.items()})


@functools.cache
def _typed_fields(cls: type) -> list[tuple[dataclasses.Field, typing.Any, Callable[[object], bool]]]:
    """The fields with their types and what checks these, cached: a plan makes thousands of specs of a few
    classes.
    """
    hints = typing.get_type_hints(cls)
    return [(each, hints[each.name], _fits(hints[each.name])) for each in dataclasses.fields(cls)]


def _fits(hint) -> Callable[[object], bool]:
    """A function that says whether a value has this type."""
    if isinstance(hint, types.UnionType):
        options = [_fits(option) for option in typing.get_args(hint)]
        return lambda value: any(fits(value) for fits in options)
    if typing.get_origin(hint) is tuple:
        *kinds, last = typing.get_args(hint)
        if last is ...:
            (fits,) = map(_fits, kinds)
            return lambda value: isinstance(value, tuple) and all(map(fits, value))
        each = [*map(_fits, kinds), _fits(last)]
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(each)
            and all(fits(one) for fits, one in zip(each, value, strict=True))
        )
    if hint is float:
        return finite
    if hint is int:  # to Python, True is one, too
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    kind = typing.get_origin(hint) or hint
    return lambda value: isinstance(value, kind)


def plain(value):
    """Lists as tuples, and NumPy's numbers, which JSON does not know, as Python's."""
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.item() if getattr(value, "shape", None) == () else value


def finite(value) -> bool:
    """Whether ``value`` is a number, no bool, that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def _plain(value, real: bool):
    if isinstance(value, Settings):
        return value.to_json()
    if isinstance(value, tuple):
        return [_plain(each, real) for each in value]
    # 1 and 1.0, 0.0 and -0.0 are the same setting where a float is meant, so they must hash alike.
    return float(value) + 0.0 if real and isinstance(value, (int, float)) else value


def _from_plain(value, hint):
    """``value`` as the settings that ``hint`` asks for; what is no JSON object stays as it is."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    makers = [h for h in options if isinstance(h, type) and issubclass(h, Settings)]
    return makers[0].from_json(value) if makers and isinstance(value, dict) else value
