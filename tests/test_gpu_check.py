"""eval/gpu_check.py without a GPU: tiny shapes, and what becomes of checks that fail."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EVAL = Path(__file__).resolve().parent.parent / "eval"


@pytest.fixture(scope="module")
def check():
    sys.path.insert(0, str(EVAL))
    try:
        import gpu_check

        yield gpu_check
    finally:
        sys.path.remove(str(EVAL))


def test_every_check_runs_in_tiny_shapes(check, tmp_path, capsys):
    check.main(["--smoke", "--only", "encoder", "label", "0.5B", "-o", str(tmp_path / "report.json")])
    printed = capsys.readouterr().out.splitlines()
    table = printed[printed.index(check.HEAD.splitlines()[0]) :]
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert len(rows) == len(table) - 2 == 9
    assert {line.count("|") for line in table} == {7}
    passed = [row for row in rows if row["result"] == "ok"]
    if find_spec("bitsandbytes"):
        assert passed == rows
    else:  # some machines have no wheels of it
        low = ("nf4", "4bit", "8bit")
        assert passed == [row for row in rows if not any(level in row["check"] for level in low)]
    assert all(row["seconds"] > 0 for row in rows)


def test_without_a_gpu_it_says_what_to_do(check, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert check.main([]) == 2
    assert "--smoke" in capsys.readouterr().err


def place(check, tmp_path):
    return check.Place(tmp_path, "cuda", False)


def test_a_check_that_raises_is_a_row(check, tmp_path):
    def broken(place):
        raise ValueError("a | b\nmore")

    row = check.run_here(check.Check("broken", broken), place(check, tmp_path))
    assert row.result == "failed: ValueError: a | b"
    assert check.line(row).count("|") == 7


def test_a_process_that_ends_or_hangs_is_a_row(check, tmp_path):
    """A name that the process does not know ends it at once, as a crash would."""
    nobody = check.Check("nobody", lambda place: None)
    assert check.run_alone(nobody, place(check, tmp_path), 60).result.startswith("failed: ended with 1: KeyError")
    assert check.run_alone(nobody, place(check, tmp_path), 0.01).result == "failed: over its limit of 0 s"


def test_no_check_starts_when_time_is_up(check, tmp_path):
    rows = list(check.run_all(check.checks(), place(check, tmp_path), 0.1))
    assert [row.result for row in rows] == ["not run: no time was left"] * len(check.checks())
