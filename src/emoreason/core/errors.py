"""Mistakes that a user can repair. The command line prints the message without a stack trace."""


class EmoreasonError(Exception):
    """Something cannot be used. The message says what was given, what was expected and what to type next (exit 1)."""


class UsageError(EmoreasonError):
    """An option or argument makes no sense (exit 2)."""
