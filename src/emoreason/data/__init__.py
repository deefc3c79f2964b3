"""Data sets of faces: one reader per layout, one `Sample` for all; checks and conversion."""

from emoreason.data.schema import Sample
from emoreason.data.sources import FORMATS, read, sniff

__all__ = ["FORMATS", "Sample", "read", "sniff"]
