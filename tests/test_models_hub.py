"""`models push` and `--model hub:OWNER/NAME` against a Hub on loopback, with the Hub's own client.

Each command is a process of its own: the client reads where the Hub is when it is imported.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from drawn_faces import write_folder
from emoreason.apps.cli.main import execute
from emoreason.core.errors import UsageError
from emoreason.models.bundle import find_bundle
from emoreason.models.hub import stage
from emoreason.train.recipes.smoke_texts import save_language
from fake_hub import TOKEN, FakeHub
from test_vlm import fresh

REPO = "me/my-faces"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """Made by the command line, with pictures, a checkpoint and a place of this machine in it."""
    folder = tmp_path_factory.mktemp("secret-place")
    data = write_folder(folder / "my_faces", each=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        out = folder / "mine"
        assert execute(["finetune", "--data", str(data), "--labels", "bored,engaged,confused", "--no-detect", "--out",
                        str(out), "--device", "cpu", "--train.epochs", "20", "--what", "head"]) == 0  # fmt: skip
    shutil.copy(next(data.rglob("*.png")), out / "face.png")
    (out / "checkpoint").mkdir()
    (out / "checkpoint" / "state.pt").write_bytes(b"x")
    return out


def emoreason(hub: FakeHub, home: Path, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess:
    own = {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0",
           "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    return subprocess.run([sys.executable, "-m", "emoreason", *arguments], env=os.environ | own,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)  # fmt: skip


def test_a_pushed_run_comes_back_as_a_model(run, tmp_path, astronaut, monkeypatch):
    monkeypatch.setenv("EMOREASON_MODELS", str(tmp_path / "models"))
    with FakeHub() as hub:
        asked = emoreason(hub, tmp_path, "models", "push", str(run), "--repo", REPO, "--private")
        assert asked.returncode == 2 and "--yes" in asked.stderr and not hub.files  # told, and nothing was done
        assert "weights.safetensors" in asked.stderr and "No pictures" in asked.stderr
        wrong = emoreason(hub, tmp_path, "models", "push", str(run), "--repo", REPO, "--yes", token="hf_wrong")
        assert wrong.returncode == 1 and "hf auth login" in wrong.stderr and not hub.files
        done = emoreason(hub, tmp_path, "models", "push", str(run), "--repo", REPO, "--private", "--yes")
        assert done.returncode == 0, done.stderr
        assert f"--model hub:{REPO}" in done.stdout and hub.private == {REPO: True} and len(hub.commits) == 1
        stored = hub.files[REPO]
        command = ["explain", str(astronaut), "--model", f"hub:{REPO}", "--json", "--explainer", "none", "--device"]
        shown = [emoreason(hub, tmp_path, *command, "cpu")]
        added = emoreason(hub, tmp_path, "models", "add", f"hub:{REPO}", "--name", "fetched")
        assert added.returncode == 0, added.stderr
        assert not hub.unknown
    assert find_bundle("fetched").spec["name"] == "fetched"
    shown.append(emoreason(hub, tmp_path, "explain", str(astronaut), "--model", str(run), *command[4:], "cpu"))
    there, here = (json.loads(answer.stdout)["faces"][0] for answer in shown)
    assert there["probabilities"] == here["probabilities"] and set(here["probabilities"]) == {
        "bored", "engaged", "confused"}  # fmt: skip

    assert set(stored) == {path.name for path in run.iterdir()} - {"split.csv", "face.png", "checkpoint"} | {
        "SHA256SUMS"}  # fmt: skip
    for name, content in stored.items():
        assert b"secret-place" not in content, name
    text = stored["README.md"].decode()
    head, body = yaml.safe_load(text.split("---\n")[1]), text.split("---\n", 2)[2]
    assert head["library_name"] == "emoreason" and head["license"] == "other"
    spec = json.loads(stored["model.json"])
    assert head["emoreason"]["base"] == "mini" and head["emoreason"]["base_revision"] == spec["base_revision"]
    assert head["emoreason"]["data_sha256"] == spec["trained_on"]["data_sha256"]
    after = json.loads(stored["metrics.json"])["after"]
    figures = {row["name"]: row["value"] for row in head["model-index"][0]["results"][0]["metrics"]}
    assert figures["UAR"] == pytest.approx(after["uar"]["value"], abs=1e-4) and len(figures) == 3
    assert f"--model hub:{REPO}" in body and "## Protocol" in body and "my_faces" in body


def test_the_hubs_own_reader_understands_the_card(run, tmp_path):
    from huggingface_hub import ModelCard

    stage(str(run), REPO, tmp_path, licence="cc-by-nc-4.0")
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.license == "cc-by-nc-4.0" and data.model_name == "my-faces"
    assert {result.metric_name for result in data.eval_results} == {"Accuracy (WAR)", "UAR", "Macro-F1"}


def test_what_stands_on_a_folder_of_this_machine_is_not_pushed(run, tmp_path):
    moved = shutil.copytree(run, tmp_path / "moved")
    spec = json.loads((moved / "model.json").read_text())
    base = shutil.copytree(Path(__file__).parent.parent / "src/emoreason/weights/mini", tmp_path / "base")
    (moved / "model.json").write_text(json.dumps(spec | {"base": str(base)}))
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="first type emoreason models merge"):
        stage(str(moved), REPO, tmp_path / "there")


def test_an_explainer_is_pushed_by_its_own_method(tmp_path, monkeypatch):
    """VisionLanguageModel.push_to_hub goes the same way: refused where it stands on a folder of this machine."""
    vlm = fresh(save_language(tmp_path / "language"))
    with pytest.raises(UsageError, match="the explainer needs"):
        vlm.push_to_hub(REPO)


def test_an_unknown_model_of_the_hub_is_told(tmp_path, astronaut):
    with FakeHub() as hub:
        answer = emoreason(hub, tmp_path, "explain", str(astronaut), "--model", "hub:me/nobody")
    assert answer.returncode == 1 and re.search("hub:me/nobody cannot be fetched", answer.stderr)
