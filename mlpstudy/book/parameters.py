"""A notebook's parameters, checked before a kernel starts, and in its first cell under plain papermill.

papermill itself only warns about unknown parameters, and passes on values as YAML parses them.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from mlplib.errors import MlplibError, require_choice
from mlplib.files import require_folder

from ..experiments import EXPERIMENTS, experiment
from ..profiles import PROFILES, SEEDS, parse_seeds

PUBLISHED = "published"
"""In place of a profile: show published records, train nothing."""


def _check_folder(folder: str | None, info: ValidationInfo) -> str | None:
    """Refuse what cannot be the path of a folder; one that is only read must exist."""
    if folder is not None:
        if folder in ("None", "null"):  # text from a command line
            raise MlplibError(f"{info.field_name} must be the path of a folder, not {folder}: leave it out")
        require_folder(folder, info.field_name, exists=info.field_name == "results_dir")
    return folder


def _check_profile(name: str) -> str:
    require_choice("profile", name, (*PROFILES, PUBLISHED))
    return name


def _check_device(name: str) -> str:
    if name not in ("auto", "cpu"):
        from mlplib.machine import pick_device  # it imports torch, which takes seconds

        pick_device(name)
    return name


Folder = Annotated[
    str | None,
    BeforeValidator(lambda folder: os.fspath(folder) if isinstance(folder, os.PathLike) else folder),
    AfterValidator(_check_folder),
]


class Parameters(BaseModel):
    """What a reader may set in a notebook's cell ``parameters``.

    ``profile``: how much to spend, or ``published`` to train nothing and show published records; ``seeds``:
    None for the profile's own; ``runs_dir, results_dir``: folders of the runs and of the published records,
    None for the usual places; ``device``: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: Annotated[str, AfterValidator(_check_profile)] = "laptop"
    seeds: Annotated[
        tuple[int, ...] | None, BeforeValidator(lambda seeds: None if seeds is None else parse_seeds(seeds))
    ] = None
    runs_dir: Folder = None
    results_dir: Folder = None
    device: Annotated[str, AfterValidator(_check_device)] = "auto"


class CheckpointParameters(Parameters):
    """Those of the notebooks that can also start from weights which the paper's authors published.

    ``official_checkpoints``: a folder of such files (:mod:`mlplib.official`), None for none.
    """

    official_checkpoints: Folder = None


def _take_checkpoints() -> list[str]:
    return [name for name in EXPERIMENTS if hasattr(experiment(name), "checkpoint_runs")]


def of_notebook(name: str) -> type[Parameters]:
    """The parameters of the notebook of that name; one without an experiment has the common ones."""
    return CheckpointParameters if name in _take_checkpoints() else Parameters


WANTED = {
    "profile": "a name, such as laptop",
    "seeds": SEEDS,
    "runs_dir": "the path of a folder",
    "results_dir": "the path of a folder",
    "device": "auto, cpu, cuda or cuda:<number>",
    "official_checkpoints": "the path of a folder",
}
"""What each parameter must be, for error messages."""


def parse(values: Mapping[str, object], accepted: type[Parameters] = Parameters) -> Parameters:
    """Check ``values`` and return them as parameters of the class ``accepted``.

    Raises:
        MlplibError: a parameter is unknown, of the wrong type, or not possible; the message is one line.
    """
    refuse_unknown(values, accepted)
    try:
        checked = accepted(**values)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise MlplibError(f"{name} must be {WANTED[name]}, not {values[name]!r}") from None
    if checked.profile == PUBLISHED:
        for name in checked.model_dump(exclude_defaults=True):
            if name not in ("profile", "results_dir"):
                raise MlplibError(
                    f"{name} has no effect in profile {PUBLISHED}: leave it out, or choose a profile"
                )
    return checked


def refuse_unknown(names: Iterable[str], accepted: type[Parameters] = Parameters) -> None:
    """Refuse names that are not parameters of ``accepted``.

    Raises:
        MlplibError: the message lists the valid names, or the notebooks that take this parameter.
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

    A parameter cell is one that papermill injected (it starts with ``# Parameters``), or one that does
    nothing but assign constants and sets at least one parameter, like a notebook's own. papermill injects its
    values after the cell tagged ``parameters``. Where an editor dropped that tag, papermill puts them first,
    and the notebook's defaults replace them.

    Raises:
        MlplibError: a name is no parameter, or defaults replaced an injected value.
    """
    injected: dict[str, str] = {}
    for source in cells:
        values = _assignments(source)
        if source.lstrip().startswith("# Parameters"):
            refuse_unknown(values, accepted)
            injected |= values
        elif values.keys() & Parameters.model_fields.keys() and all(map(_is_constant, values.values())):
            refuse_unknown(values, accepted)
            for name in injected.keys() & values.keys():
                if injected[name] != values[name]:
                    raise MlplibError(
                        f"{name} is {injected[name]} in the injected cell, but a later cell sets it to "
                        f"{values[name]}: give the notebook's first code cell its tag `parameters` back, or "
                        "delete the injected cell"
                    )


def _assignments(source: str) -> dict[str, str]:
    """The names that a cell of only assignments sets, with their values as source code."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a cell with magics
        return {}
    if not all(isinstance(statement, ast.Assign) for statement in statements):
        return {}
    return {
        target.id: ast.unparse(statement.value)
        for statement in statements
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def _is_constant(source: str) -> bool:
    try:
        ast.literal_eval(source)
    except ValueError:
        return False
    return True
