"""A run of `emoreason finetune`, served by one process as page and API: it answers with its own labels, and shows its
card. Nothing but the folder is named."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from api_server import data_uri, pictured
from browser import Site, browsing, end, picture, visiting, wait_for
from drawn_faces import MOUTHS, drawn, write_folder

OWN = tuple(MOUTHS)


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("secret-place")
    data = write_folder(folder / "my_faces", each=20)
    home, temp, log = folder / "home", folder / "temp", folder / "log"
    home.mkdir()
    temp.mkdir()
    own = {"HOME": str(home), "TMPDIR": str(temp), "XDG_DATA_HOME": str(home / "data"), "HF_HUB_OFFLINE": "1",
           "XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache")}  # fmt: skip
    emoreason = [sys.executable, "-m", "emoreason"]
    command = ["finetune", "--data", str(data), "--labels", ",".join(OWN), "--no-detect", "--what", "head"]
    done = subprocess.run([*emoreason, *command, "--out", "runs/mine", "--device", "cpu", "--train.epochs", "60"],
                          cwd=folder, env=os.environ | own, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    with log.open("wb") as out:
        process = subprocess.Popen([*emoreason, "serve", "--ui", "--model", str(folder / "runs/mine"), "--port", "0"],
                                   cwd=folder, env=os.environ | own, stdout=out, stderr=subprocess.STDOUT)  # fmt: skip

    def address() -> str | None:
        assert process.poll() is None, log.read_text()
        found = re.search(r"serving (\S+)/v1", log.read_text())
        return found and found[1]

    try:
        site = Site(wait_for(address), home, temp, log)
        wait_for(lambda: httpx.get(f"{site.address}/readyz").status_code == 200)
        yield site
    finally:
        end(process)


def face(label: str) -> Image.Image:
    return drawn(MOUTHS[label], 4321).convert("RGB")


def card(site: Site) -> dict:
    return json.loads((site.home.parent / "runs" / "mine" / "metrics.json").read_text())


def test_the_api_answers_with_the_labels_of_the_run(served):
    with httpx.Client(base_url=served.address, timeout=120) as client:
        right = 0
        for label in OWN:
            asked = {"images": [data_uri(face(label), "PNG")], "detect": False}
            (found,) = client.post("/v1/emotions", json=asked).json()["data"][0]["faces"]
            assert set(found["probabilities"]) == set(OWN)
            right += found["label"] == label
        assert right >= 2
        chat = {"model": "mine", "messages": [pictured("What does this face show?")]}
        told = client.post("/v1/chat/completions", json=chat).json()["choices"][0]["message"]["content"]
        asked = {"images": [data_uri()], "explain": True}
        (found,) = client.post("/v1/emotions", json=asked).json()["data"][0]["faces"]
        made = found["explanation"]
        assert made["checks"]["ok"] and set(made["reasoned"]["probabilities"]) == set(OWN)
        assert told.startswith(made["short"]) and len(told) > len(made["short"])


def test_the_api_tells_what_was_measured(served):
    with httpx.Client(base_url=served.address, timeout=60) as client:
        (model,) = client.get("/v1/models").json()["data"]
        assert client.get("/v1/models/mine").json() == model
    assert model["id"] == "mine" and set(model["labels"]) == set(OWN) and model["explains"]
    assert model["base"].startswith("mini ")
    metrics, told = card(served), model["measured"]
    for when in ("before", "after"):
        for key in ("accuracy", "uar", "macro_f1"):
            assert told[when][key] == metrics[when][key]["value"]
    assert told["counts"] == metrics["counts"] and told["protocol"] == metrics["protocol"]
    assert "secret-place" not in json.dumps(model)


def test_the_page_answers_with_the_labels_and_shows_the_card(served):
    with browsing() as browser, visiting(browser, served) as chat:
        chat.open("settings")
        chat.page.get_by_label("Find faces first").uncheck()
        answer = chat.show(picture(face("engaged")))
        assert chat.label().split(",")[0] in OWN and "happiness" not in answer
        shown = chat.panel.locator(".er-bars .er-name").all_inner_texts()
        assert set(shown) == set(OWN)
        assert chat.ask("How sure are you?") != answer
        chat.tab("Model")
        metrics = card(served)
        for when in ("before", "after"):
            chat.page.get_by_text(f"{100 * metrics[when]['uar']['value']:.1f} %").first.wait_for()
        chat.page.get_by_text("before (zero-shot)").first.wait_for()
        page = chat.page.locator("body").inner_text()
        assert "secret-place" not in page and str(served.home) not in page


def test_the_mini_says_what_it_was_measured_at():
    from emoreason.apps.api.about import card as told

    measured = told("mini")["measured"]
    assert measured["after"] == {"accuracy": 0.857, "uar": 0.733} and measured["before"] is None
    assert told("ViT-L-14/openai") == {"base": None, "measured": None}
