"""Errors that a user can fix. The command line prints their message without a stack trace."""


class EmoreasonError(Exception):
    """Something cannot be used (exit code 1). The message says what was given and expected and what to do next."""


class UsageError(EmoreasonError):
    """An option or argument is wrong (exit code 2)."""


def missing(extra: str, error: ImportError) -> EmoreasonError:
    return EmoreasonError(f"this needs {error.name}: pip install 'emoreason[{extra}]'")


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank, or the name of its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
