"""Settings that validate themselves: frozen dataclasses whose fields declare their allowed values."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
import types
import typing
from collections.abc import Callable, Mapping

from ..errors import MlplibError

WORDS = {int: "a whole number", float: "a finite number"}
BOUNDS = {
    "least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "below": ("below", operator.lt),
}

LARGEST = {int: 10**9, float: 2.0**127}
"""Numbers are below this unless a setting declares another bound: torch accepts none that is much larger."""


def setting(default=dataclasses.MISSING, **declared):
    """A field of a :class:`Settings` class.

    Args:
        default: its default; without one, a value is required.
        declared: ``least``, ``above``, ``below``: bounds of a number, or of each number of a tuple;
            ``choices``: the only valid values; ``later=True``: the field was added after records had been
            published, so its default is left out of the JSON form, and older runs keep their ids.
    """
    return dataclasses.field(default=default, metadata=declared)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Refuses values of the wrong type, or that their fields do not allow.

    ``int`` is accepted for ``float``, and NumPy's numbers for Python's. Lists become tuples, since JSON and
    YAML have only lists.

    Raises:
        MlplibError: the message names the setting.
    """

    def __post_init__(self):
        for field in _fields(type(self)):
            value = getattr(self, field.name)
            if not field.fits(value):
                value = plain(value)
                object.__setattr__(self, field.name, value)
                if not field.fits(value):
                    self.refuse(field.name, field.kind)
            if value is not None and field.objection and (wanted := field.objection(value)):
                self.refuse(field.name, wanted)

    def refuse(self, name: str, wanted: str) -> typing.NoReturn:
        """Raise an MlplibError that says what a setting must be."""
        raise MlplibError(f"{type(self).__name__}.{name} must be {wanted}, not {getattr(self, name)!r}")

    def refuse_ignored(self, where: str, *names: str) -> None:
        """Refuse non-default values of settings that have no effect: otherwise one run would have two ids."""
        for field in dataclasses.fields(self):
            if field.name in names and getattr(self, field.name) != field.default:
                raise MlplibError(
                    f"{type(self).__name__}.{field.name} means nothing with {where}: leave it out"
                )

    def to_json(self) -> dict:
        """The settings as plain JSON values; :meth:`from_json` reads them back."""
        found = {}
        for field in _fields(type(self)):
            value = getattr(self, field.name)
            if not (field.later and value == field.default):
                found[field.name] = _to_json(value, field.real)
        return found

    @classmethod
    def from_json(cls, values: dict):
        """The inverse of :meth:`to_json`.

        Raises:
            MlplibError: a setting is missing, unknown or refused.
        """
        fields = {field.name: field for field in _fields(cls)}
        needed = (field.name for field in fields.values() if field.default is dataclasses.MISSING)
        if missing := sorted(name for name in needed if name not in values):
            raise MlplibError(f"{cls.__name__} lacks {', '.join(missing)}")
        if unknown := sorted(values.keys() - fields.keys()):
            raise MlplibError(
                f"{cls.__name__} has no setting {unknown[0]!r}: choose from {', '.join(sorted(fields))}"
            )
        return cls(**{name: fields[name].from_plain(value) for name, value in values.items()})


@dataclasses.dataclass(frozen=True)
class _Field:
    """The declaration of a setting.

    ``kind``: its type in words; ``fits``: whether a value has that type; ``objection``: for an invalid value
    of that type, what it must be; ``later``, ``default``: see :func:`setting`; ``real``: it holds floats;
    ``settings``: the class of its value, if that is a subclass of :class:`Settings`.
    """

    name: str
    kind: str
    fits: Callable[[object], bool]
    objection: Callable[[object], str | None] | None
    later: bool
    default: object
    real: bool
    settings: type[Settings] | None

    def from_plain(self, value):
        """A value from JSON; an object becomes :class:`Settings` where the field holds them."""
        return self.settings.from_json(value) if self.settings and isinstance(value, dict) else value


@functools.cache  # a plan creates thousands of specs of a few classes
def _fields(cls: type) -> tuple[_Field, ...]:
    hints, found = typing.get_type_hints(cls), []
    for each in dataclasses.fields(cls):
        hint = hints[each.name]
        kind = WORDS.get(hint) or (hint.__name__ if type(hint) is type else str(hint))
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        inner = next((h for h in options if isinstance(h, type) and issubclass(h, Settings)), None)
        objection = _objection(each.metadata) if each.metadata else None
        later, real = each.metadata.get("later", False), "float" in str(each.type)
        found.append(_Field(each.name, kind, _fits(hint), objection, later, each.default, real, inner))
    return tuple(found)


def _objection(declared: Mapping[str, object]) -> Callable[[object], str | None]:
    """A function that says what an invalid value must be, and returns None for a valid one."""
    choices = declared.get("choices")
    bounds = [(words, holds, declared[name]) for name, (words, holds) in BOUNDS.items() if name in declared]
    limited = "below" in declared

    def objection(value) -> str | None:
        if choices is not None:
            return None if value in choices else f"one of {', '.join(choices)}"
        for number in value if isinstance(value, tuple) else (value,):
            for words, holds, bound in bounds:
                if not holds(number, bound):
                    return f"{words} {bound}"
            largest = None if limited else LARGEST.get(type(number))
            if largest is not None and number >= largest:
                return f"{BOUNDS['below'][0]} {largest}"
        return None

    return objection


def _fits(hint) -> Callable[[object], bool]:
    """A function that tells whether a value has this type."""
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
    if hint is int:  # in Python, True is an int
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    kind = typing.get_origin(hint) or hint
    return lambda value: isinstance(value, kind)


def plain(value):
    """Convert lists to tuples, and NumPy's numbers, which JSON does not support, to Python's."""
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    return value.item() if getattr(value, "shape", None) == () else value


def finite(value) -> bool:
    """Whether ``value`` is a finite number that a float can hold, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int of hundreds of digits
        return False


def _to_json(value, real: bool):
    if isinstance(value, Settings):
        return value.to_json()
    if isinstance(value, tuple):
        return [_to_json(each, real) for each in value]
    # In a float field, 1 and 1.0, or 0.0 and -0.0, are the same setting, so they must get the same hash.
    return float(value) + 0.0 if real and isinstance(value, (int, float)) else value
