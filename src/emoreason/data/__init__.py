"""Data sets of faces: a reader for each layout, all of them giving `Sample`s; checks and conversion."""

from emoreason.data.schema import Sample
from emoreason.data.sources import FORMATS, read, sniff

__all__ = ["FORMATS", "Sample", "read", "sniff"]
