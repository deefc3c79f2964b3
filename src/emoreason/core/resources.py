"""Find files shipped with the code, such as benchmarks and prompts: at the top of the repository, or in the wheel."""

from __future__ import annotations

from pathlib import Path

from emoreason.core.errors import EmoreasonError

PACKAGE = Path(__file__).resolve().parent.parent


def resource(relative: str) -> Path:
    """The path of a file or folder such as "eval/ferplus.yaml": in the wheel if it is there, else in the repository."""
    paths = [folder / relative for folder in (PACKAGE / "_resources", PACKAGE.parent.parent)]
    for path in paths:
        if path.exists():
            return path
    tried = " and ".join(map(str, paths))
    raise EmoreasonError(
        f"{relative} is missing: looked for {tried}. Reinstall emoreason, or run it from its repository."
    )
