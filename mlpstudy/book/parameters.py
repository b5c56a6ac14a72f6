"""A notebook's parameters, checked before a kernel starts, and in its first cell under plain papermill.

papermill itself only warns of a parameter it does not know, and hands on whatever YAML makes of a value.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from mlplib.errors import MlplibError

from ..profiles import SEEDS, parse_seeds
from ..profiles import profile as find_profile


class Parameters(BaseModel):
    """What a reader may set in a notebook's cell ``parameters``.

    ``profile``: how much to spend; ``seeds``: None for the profile's own; ``runs_dir, results_dir``: folders
    of the runs and of the published records, None for the usual places; ``device``: ``auto``, ``cpu``,
    ``cuda`` or ``cuda:<number>``.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str = "laptop"
    seeds: tuple[int, ...] | None = None
    runs_dir: str | None = None
    results_dir: str | None = None
    device: str = "auto"

    @field_validator("profile")
    @classmethod
    def _known(cls, name: str) -> str:
        return find_profile(name).name

    @field_validator("seeds", mode="before")
    @classmethod
    def _list_of_seeds(cls, seeds):
        return None if seeds is None else parse_seeds(seeds)

    @field_validator("runs_dir", "results_dir")
    @classmethod
    def _folder(cls, folder: str | None, info: ValidationInfo) -> str | None:
        if folder is not None:
            _check_folder(info.field_name, folder)
        return folder

    @field_validator("device")
    @classmethod
    def _there(cls, name: str) -> str:
        if name != "auto":
            from mlplib.machine import pick_device

            pick_device(name)
        return name


class CheckpointParameters(Parameters):
    """Those of the notebooks that can also start from weights which the paper's authors published.

    ``official_checkpoints``: a folder of such files (:mod:`mlplib.official`), None for none.
    """

    official_checkpoints: str | None = None

    @field_validator("official_checkpoints")
    @classmethod
    def _checkpoints(cls, folder: str | None) -> str | None:
        if folder is not None:
            _check_folder("official_checkpoints", folder)
        return folder


def _check_folder(name: str, folder: str) -> None:
    """Refuse what cannot be the path of a folder; it may be missing."""
    if not folder.strip():
        raise MlplibError(f"{name} names a folder: leave it out to go without")
    try:
        if not Path(folder).expanduser().is_dir() and Path(folder).expanduser().stat():
            raise MlplibError(f"{name} must be the path of a folder, but {folder} is a file")
    except FileNotFoundError:
        pass
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, an unknown user's home
        reason = getattr(error, "strerror", None) or error
        raise MlplibError(f"{name} must be the path of a folder, not {folder!r}: {reason}") from None


def of_notebook(name: str) -> type[Parameters]:
    """What the notebook of that name takes; one without an experiment takes the common parameters."""
    return CheckpointParameters if name in _take_checkpoints() else Parameters


def _take_checkpoints() -> list[str]:
    from ..experiments import EXPERIMENTS, experiment

    return [name for name in EXPERIMENTS if hasattr(experiment(name), "checkpoint_runs")]


WANTED = {
    "profile": "a name, such as laptop",
    "seeds": SEEDS,
    "runs_dir": "the path of a folder",
    "results_dir": "the path of a folder",
    "device": "auto, cpu, cuda or cuda:<number>",
    "official_checkpoints": "the path of a folder",
}
"""What each parameter has to be, for a message."""


def parse(values: Mapping[str, object], accepted: type[Parameters] = Parameters) -> Parameters:
    """The parameters that ``values`` give, of those that ``accepted`` has.

    Raises:
        MlplibError: a parameter is unknown, of the wrong type, or not possible; one line tells.
    """
    refuse_unknown(values, accepted)
    try:
        return accepted(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise MlplibError(f"{name} must be {WANTED[name]}, not {values[name]!r}") from None


def refuse_unknown(names: Iterable[str], accepted: type[Parameters] = Parameters) -> None:
    """Refuse names that are no parameters of ``accepted``.

    Raises:
        MlplibError: with the list of those there are, or with the notebooks that take this one.
    """
    for name in names:
        if name in accepted.model_fields:
            continue
        if name in CheckpointParameters.model_fields:
            where = " and ".join(_take_checkpoints())
            raise MlplibError(f"{name} is for the notebooks {where}: leave it out here")
        raise MlplibError(f"unknown parameter {name!r}: choose from {', '.join(accepted.model_fields)}")


def check_cells(cells: Iterable[str], accepted: type[Parameters] = Parameters) -> None:
    """Check the parameter cells among ``cells``, the sources of those executed so far.

    papermill injects its values after the cell tagged ``parameters``. Where an editor dropped that tag,
    papermill puts them first, and the notebook's defaults replace them.

    Raises:
        MlplibError: a name is no parameter, or defaults replaced an injected value.
    """
    injected: dict[str, object] = {}
    for source, values in _parameter_cells(cells):
        refuse_unknown(values, accepted)
        if _is_injected(source):
            injected |= values
            continue
        for name in injected.keys() & values.keys():
            if injected[name] != values[name]:
                raise MlplibError(
                    f"{name} is {injected[name]} in the injected cell, but a later cell sets it to "
                    f"{values[name]}: give the notebook's first code cell its tag `parameters` back, or "
                    "delete the injected cell"
                )


def names_set_by(cells: Iterable[str]) -> list[str]:
    """The names that the parameter cells among ``cells`` assign."""
    return [name for _, values in _parameter_cells(cells) for name in values]


def _is_injected(source: str) -> bool:
    return source.lstrip().startswith("# Parameters")


def _parameter_cells(cells: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The parameter cells among ``cells``, each with the names that it assigns and their values as source.

    A parameter cell is one that papermill injected (it starts with ``# Parameters``), or one that does
    nothing but assign constants and sets at least one parameter, like a notebook's own.
    """
    for source in cells:
        try:
            statements = ast.parse(source).body
        except SyntaxError:  # a cell with magics is no parameter cell
            continue
        if not statements or not all(isinstance(statement, ast.Assign) for statement in statements):
            continue
        values = {
            target.id: ast.unparse(statement.value)
            for statement in statements
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        constants = all(_is_constant(statement.value) for statement in statements)
        own = constants and any(name in Parameters.model_fields for name in values)
        if own or _is_injected(source):
            yield source, values


def _is_constant(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True
