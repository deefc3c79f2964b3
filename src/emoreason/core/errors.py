"""Mistakes that a user can repair. The command line prints the message without a stack trace."""


class EmoreasonError(Exception):
    """Something cannot be used. The message says what was given, what was expected and what to type next (exit 1)."""


class UsageError(EmoreasonError):
    """An option or argument makes no sense (exit 2)."""


def missing(extra: str, error: ImportError) -> EmoreasonError:
    return EmoreasonError(f"this needs {error.name}: pip install 'emoreason[{extra}]'")


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty; the error's type where it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
