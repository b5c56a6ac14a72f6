"""A notebook's parameters: what is accepted, and one line for everything else."""

import pytest

from mlplib.errors import MlplibError
from mlplib.parameters import Parameters, names_set_by, parse, parse_seeds


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
        ({"profile": "huge"}, "unknown profile 'huge'.*smoke, laptop, gpu, paper"),
        ({"profile": None}, "profile must be a name.*None"),
        ({"profile": 3}, "profile must be a name.*3"),
        ({"seeds": "5e-5"}, "seeds must be a list.*5e-5"),
        ({"seeds": 0.5}, "seeds must be a list.*0.5"),
        ({"seeds": True}, "seeds must be a list"),
        ({"seeds": []}, "seeds must be a list"),
        ({"seeds": ""}, "seeds must be a list"),
        ({"seeds": [0, "1"]}, "seeds must be a list"),
        ({"seeds": {0: 1}}, "seeds must be a list"),
        ({"seeds": "0,-1"}, "not be negative, but -1 is"),
        ({"seeds": [2, 1, 2]}, "seed 2 is given twice"),
        ({"runs_dir": 5}, "runs_dir must be the path of a folder, not 5"),
        ({"results_dir": " "}, "name folders"),
        ({"device": "tpu"}, "unknown device 'tpu'|'tpu' is not"),
        ({"device": 0}, "device must be auto, cpu"),
    ],
)
def test_anything_else_is_refused_in_one_line(given, why):
    with pytest.raises(MlplibError, match=why) as refusal:
        parse(given)
    assert "\n" not in str(refusal.value)


def test_names_are_read_from_parameter_cells_only():
    own = 'profile = "laptop"  # how much\nseeds = None\n'
    injected = '# Parameters\nprofile = "smoke"\ntypo = 5e-05\nrate = float("nan")\n'
    others = [
        "",
        "%matplotlib inline",
        "import os",
        "n = 3",
        "profile = best()",
        "profile = 'x'\nprint(profile)",
    ]
    assert names_set_by([own]) == ["profile", "seeds"]
    assert names_set_by([injected]) == ["profile", "typo", "rate"]
    assert names_set_by(others) == []
    assert names_set_by(["typo = 1\nprofile = 'smoke'"]) == ["typo", "profile"]
