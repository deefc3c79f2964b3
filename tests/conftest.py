"""Shared by all tests: small real models, real pictures, and the FER+ faces where they are at hand."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FERPLUS = Path(os.environ.get("EMOREASON_FERPLUS", ROOT.parent / "shared" / "data" / "ferplus"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or writes the user's cache, and none can reach a hub."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """The same for fixtures of a module, which are made before a test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def ferplus() -> Path:
    """The folder with train.parquet and validation.parquet; the test is skipped without it."""
    if not (FERPLUS / "validation.parquet").is_file():
        pytest.skip(f"no FER+ faces at {FERPLUS} (set EMOREASON_FERPLUS)")
    return FERPLUS


@pytest.fixture(scope="session")
def astronaut() -> Path:
    return ROOT / "examples" / "astronaut.jpg"


@pytest.fixture(scope="session")
def mini():
    """The shipped model, loaded once."""
    import emoreason

    return emoreason.load("mini", device_name="cpu", explainer="none")
