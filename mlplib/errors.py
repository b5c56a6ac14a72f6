"""Errors that a person can act on."""


class MlplibError(Exception):
    """Bad input or a failed resource, said in one line that tells what to do next.

    Every error that a user can cause is one of these: the command line prints the line
    without a traceback, a notebook stops at its first cell with it.
    """


class Interrupted(MlplibError):
    """Work was stopped on request; everything done so far is kept and can be resumed."""


class Refused(MlplibError):
    """A run whose settings do not fit its data or each other, wherever it is tried. Nothing of it is kept."""


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def require_choice(what: str, value, valid) -> None:
    """Refuse ``value`` unless it is in ``valid``, naming what would have been accepted.

    Raises:
        MlplibError: ``value`` is not one of ``valid``.
    """
    if value not in valid:
        names = ", ".join(str(v) for v in valid)
        raise MlplibError(f"unknown {what} {value!r}: choose one of {names}")
