"""The files that stand beside the code: benchmarks and prompts. They live at the top level and travel in the wheel."""

from __future__ import annotations

from pathlib import Path

from emoreason.core.errors import EmoreasonError

PACKAGE = Path(__file__).resolve().parent.parent


def resource(relative: str) -> Path:
    """The file or folder called `relative`, such as "eval/ferplus.yaml": in the wheel first, else in the repository."""
    places = (PACKAGE / "_resources", PACKAGE.parent.parent)
    for place in places:
        if (place / relative).exists():
            return place / relative
    looked = " and ".join(str(place / relative) for place in places)
    raise EmoreasonError(
        f"{relative} is missing: looked at {looked}. Reinstall emoreason, or run it from its repository."
    )
