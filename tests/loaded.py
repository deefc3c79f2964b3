"""Models that are loaded once for all tests of a process."""

from functools import cache

import emoreason
from emoreason.reasoner import Reasoner


@cache
def mini() -> Reasoner:
    """The shipped model without its language model."""
    return emoreason.load("mini", device_name="cpu", explainer="none")


@cache
def mini_with_words() -> Reasoner:
    """The shipped model with its language model."""
    return emoreason.load("mini", device_name="cpu")
