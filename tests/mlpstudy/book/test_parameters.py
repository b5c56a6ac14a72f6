"""A notebook's parameters: what is accepted, and one line for everything else."""

import numpy as np
import pytest

from mlplib.errors import MlplibError
from mlpstudy.book.parameters import (
    CheckpointParameters,
    Parameters,
    check_cells,
    of_notebook,
    parse,
)
from mlpstudy.experiments import EXPERIMENTS
from mlpstudy.profiles import parse_seeds


def test_nothing_given_is_the_laptop_profile_with_its_own_seeds():
    assert parse({}) == Parameters(
        profile="laptop", seeds=None, runs_dir=None, results_dir=None, device="auto"
    )


@pytest.mark.parametrize(
    "given, seeds",
    [
        ("0,1,2", (0, 1, 2)),
        (" 4, 2 ", (4, 2)),
        ("[0, 1]", (0, 1)),
        ("(0, 1)", (0, 1)),
        ("3", (3,)),
        (3, (3,)),
        ([7], (7,)),
        ((1, 0), (1, 0)),
    ],
)
def test_seeds_as_papermill_the_command_line_and_people_write_them(given, seeds):
    assert parse_seeds(given) == seeds == parse({"seeds": given}).seeds


@pytest.mark.parametrize(
    "given, why",
    [
        ({"typo": 1}, "unknown parameter 'typo'.*profile, seeds, runs_dir, results_dir, device"),
        ({"Profile": "smoke"}, "unknown parameter 'Profile'"),
        ({"profile": "huge"}, "unknown profile 'huge'.*smoke, laptop, colab, gpu, paper"),
        ({"profile": None}, "profile must be a name.*None"),
        ({"profile": 3}, "profile must be a name.*3"),
        ({"seeds": "5e-5"}, "seeds must be a list.*5e-5"),
        ({"seeds": 0.5}, "seeds must be a list.*0.5"),
        ({"seeds": True}, "seeds must be a list"),
        ({"seeds": []}, "seeds must be a list"),
        *(
            ({"seeds": text}, "seeds must be a list")
            for text in ("", "[0", "0)", "[0)", "0,,1", "0,1,", ",0", "[]")
        ),
        ({"seeds": [0, "1"]}, "seeds must be a list"),
        ({"seeds": {0: 1}}, "seeds must be a list"),
        ({"seeds": 2**32}, r"below 2\*\*32"),
        ({"seeds": "9" * 5000}, "seeds must be a list"),
        ({"runs_dir": "x" * 5000}, "runs_dir must be the path of a folder.*File name too long"),
        ({"runs_dir": "a\0b"}, "runs_dir must be the path of a folder"),
        ({"results_dir": __file__}, "is a file"),
        ({"results_dir": "resutls"}, "results_dir must be the path of a folder.*resutls': there is none"),
        ({"seeds": "0,-1"}, "at least 0 and below .*, but -1 is not"),
        ({"seeds": [2, 1, 2]}, "seed 2 is given twice"),
        ({"runs_dir": 5}, "runs_dir must be the path of a folder, not 5"),
        ({"results_dir": " "}, "results_dir must not be blank"),
        ({"device": "tpu"}, "unknown device 'tpu'|'tpu' is not"),
        ({"device": 0}, "device must be auto, cpu"),
    ],
)
def test_anything_else_is_refused_in_one_line(given, why):
    with pytest.raises(MlplibError, match=why):
        parse(given)


def test_values_of_other_types_of_the_same_meaning_are_taken(tmp_path):
    found = parse({"runs_dir": tmp_path, "results_dir": tmp_path, "seeds": list(np.arange(2))})
    assert found == parse({"runs_dir": str(tmp_path), "results_dir": str(tmp_path), "seeds": [0, 1]})
    assert parse({"seeds": np.int64(3)}).seeds == (3,) and type(parse({"seeds": np.int64(3)}).seeds[0]) is int


def test_two_notebooks_take_official_checkpoints_and_no_other():
    every = (*EXPERIMENTS, "scoreboard", "compute", "how-fast")
    taking = [name for name in every if of_notebook(name) is not Parameters]
    assert taking == ["transfer", "linear-probes"]
    assert {of_notebook(name) for name in taking} == {CheckpointParameters}
    assert list(CheckpointParameters.model_fields) == [*Parameters.model_fields, "official_checkpoints"]
    given = {"official_checkpoints": "folder", "profile": "smoke"}
    assert parse(given, CheckpointParameters).official_checkpoints == "folder"
    assert parse({}, CheckpointParameters).official_checkpoints is None


@pytest.mark.parametrize(
    "given, why",
    [
        ({"official_checkpoints": " "}, "official_checkpoints must not be blank"),
        ({"official_checkpoints": 3}, "official_checkpoints must be the path of a folder, not 3"),
        (
            {"official_checkpoint": "x"},
            "unknown parameter 'official_checkpoint': choose from profile.*device, off",
        ),
        ({"profile": "huge", "official_checkpoints": "x"}, "unknown profile 'huge'"),
    ],
)
def test_a_wrong_folder_of_checkpoints_is_refused_in_one_line(given, why):
    with pytest.raises(MlplibError, match=why):
        parse(given, CheckpointParameters)


def test_the_folder_is_refused_where_it_would_be_ignored():
    why = "^official_checkpoints is for the notebooks transfer and linear-probes: leave it out here$"
    with pytest.raises(MlplibError, match=why):
        parse({"official_checkpoints": "x"})


@pytest.mark.parametrize("cell", ["# Parameters\ntypo = float('nan')", "typo = 1\nprofile = 'smoke'"])
def test_an_unknown_name_in_a_parameter_cell_is_refused(cell):
    with pytest.raises(MlplibError, match="unknown parameter 'typo'"):
        check_cells([cell])


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "%matplotlib inline",
        "import os",
        "n = 3",
        "typo = profile = best()",
        "profile = 'x'\nprint(profile)",
    ],
)
def test_other_cells_may_set_any_name(cell):
    check_cells([INJECTED, cell])


OWN = 'profile = "laptop"\nseeds = None\n'
INJECTED = '# Parameters\nprofile = "smoke"\n'


def test_defaults_that_replace_an_injected_value_are_refused():
    check_cells(["", OWN, INJECTED])
    check_cells([OWN, INJECTED, OWN.replace("laptop", "smoke")])
    check_cells([INJECTED, "seeds = [1]"])
    with pytest.raises(
        MlplibError, match=r"profile is 'smoke' in the injected cell, but a later .* 'laptop'"
    ):
        check_cells(["", INJECTED, OWN])
    with pytest.raises(MlplibError, match="unknown parameter 'typo'"):
        check_cells([OWN, INJECTED + "typo = 1"])
