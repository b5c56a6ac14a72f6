"""``python -m mlplib`` is the command ``mlplib``, which the package around this library installs."""

import sys
from importlib.metadata import entry_points

commands = entry_points(group="console_scripts", name="mlplib")
if not commands:
    sys.exit("mlplib: the command is not installed: run `pip install -e .` in the repository")
next(iter(commands)).load()()
