"""Errors that a user can act on."""


class MlplibError(Exception):
    """Bad input or a failed resource; the message is one line that says what to do next.

    Every error that a user can cause is one of these: the command line prints the message
    without a traceback, and a notebook stops with it at its first cell.
    """


class Interrupted(MlplibError):
    """Work was stopped on request; what is done so far is kept, and the work can be resumed."""


class Refused(MlplibError):
    """A run's settings do not fit its data or each other, on any machine. Nothing of the run is kept."""


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def require_choice(what: str, value, valid) -> None:
    """Refuse ``value`` unless it is in ``valid``; the message lists the valid values.

    Raises:
        MlplibError: ``value`` is not one of ``valid``.
    """
    if value not in valid:
        names = ", ".join(str(v) for v in valid)
        raise MlplibError(f"unknown {what} {value!r}: choose one of {names}")
