"""``python -m mlpstudy`` is the command ``mlplib``."""

from .cli import main

main()
