"""What a person types, held against the command line."""

from mlpstudy.profiles import PROFILES


def parse(arguments: list[str], whole: bool = True) -> None:
    """Hold the arguments of ``mlplib`` against its commands and options, without doing anything.

    ``whole``: whether what a command needs must be there; a text may just name the command.
    """
    import typer

    from mlpstudy.cli import app
    from mlpstudy.experiments import EXPERIMENTS

    command = typer.main.get_command(app)
    names = []
    while hasattr(command, "commands"):
        assert arguments, f"mlplib {' '.join(names)} needs a subcommand"
        name, *arguments = arguments
        assert name in command.commands, f"there is no command mlplib {' '.join([*names, name])}"
        names, command = [*names, name], command.commands[name]
        if not arguments and not whole:
            return
    given = command.make_context(names[-1], list(arguments)).params
    assert given.get("profile", "laptop") in (None, *PROFILES)
    assert set(given.get("experiments") or ()) <= set(EXPERIMENTS)
