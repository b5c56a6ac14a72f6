"""``python -m mlplib`` is the command ``mlplib``."""

from .cli import main

main()
