"""Shared by all tests: small real models, real pictures, and the FER+ faces where they are at hand."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: each worker has its share of the cores
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))

import pytest

import loaded
from fork_server import command

ROOT = Path(__file__).resolve().parent.parent
FERPLUS = Path(os.environ.get("EMOREASON_FERPLUS") or "none")  # a folder with train.parquet and validation.parquet


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
        pytest.skip("set EMOREASON_FERPLUS to a folder with the FER+ faces")
    return FERPLUS


@pytest.fixture(scope="session")
def command_folder() -> Iterator[str]:
    """A folder with an `emoreason` to put on the path: the command line without new imports (see fork_server.py)."""
    with tempfile.TemporaryDirectory() as folder:  # not pytest's: the name of a socket must be short
        path, script = f"{folder}/socket", Path(folder, "emoreason")
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command(path))} "$@"\n')
        script.chmod(0o755)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        server = subprocess.Popen([sys.executable, ROOT / "tests" / "fork_server.py", path], env=environment,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert server.stdout is not None and server.stdin is not None
        assert server.stdout.readline() == b"ready\n"
        yield folder
        server.stdin.close()
        server.wait(10)


@pytest.fixture(scope="session")
def astronaut() -> Path:
    return ROOT / "examples" / "astronaut.jpg"


@pytest.fixture(scope="session")
def mini():
    """The shipped model without its language model."""
    return loaded.mini()


@pytest.fixture(scope="session")
def mini_with_words():
    """The shipped model with its language model."""
    return loaded.mini_with_words()
