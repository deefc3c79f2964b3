"""Files and people at the page in a real browser: bad pictures, saving, folders, feedback, and who sees what."""

import csv
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from browser import ASTRONAUT, TWO, Chat, browsing, picture, site, upload, visiting, wait_for
from emoreason.apps.ui.export import escaped
from emoreason.data import read


@pytest.fixture(scope="module")
def browser():
    with browsing() as opened:
        yield opened


@pytest.fixture
def chat(browser):
    with visiting(browser, site()) as opened:
        yield opened


def vast_png(side: int = 30_000) -> bytes:
    """A picture of 900 million pixels in less than 1 MB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header, rows = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), zlib.compressobj(9)
    body = b"".join(rows.compress(bytes(1 + side // 8)) for _ in range(side)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def saved(chat: Chat, button: str) -> str:
    with chat.page.expect_download() as coming:
        chat.page.click(button)
    return Path(coming.value.path()).read_text(encoding="utf-8-sig")


@pytest.mark.parametrize(
    "file",
    [
        upload("notes.png", b"just some words, and no picture at all"),
        upload("half.jpg", ASTRONAUT.read_bytes()[:4000], "image/jpeg"),
        upload("vast.png", vast_png()),
    ],
    ids=lambda file: file["name"],
)
def test_a_bad_picture_gives_a_sentence_and_the_page_goes_on(chat, file):
    answer = chat.show(file)
    assert file["name"] in answer and str(chat.site.temp) not in answer and "Traceback" not in answer
    if file["name"] == "vast.png":
        assert "pixels" in answer
    assert chat.show(ASTRONAUT) != answer and "happiness" in chat.label()


def test_no_face_is_said(chat):
    assert "No face was found" in chat.show(picture(Image.new("RGB", (300, 200), "gray"), "wall.png"))
    chat.panel.get_by_text("No face was found in the picture.").wait_for()


def test_the_conversation_is_saved_in_three_ways(chat):
    chat.show(TWO)
    chat.ask("Why not fear?")
    chat.open("keep")
    report = saved(chat, "#er-export-markdown")
    told = json.loads(saved(chat, "#er-export-json"))
    explanations = [face["explanation"] for face in told["exchanges"][0]["analyses"][0]["faces"]]
    assert len(explanations) == 2 and all(escaped(made["conclusion"]) in report for made in explanations)
    assert "Why not fear?" in report and "data:image/jpeg;base64," in report
    assert "happiness" in json.dumps(told) and "Why not fear?" in json.dumps(told)
    rows = list(csv.DictReader(io.StringIO(saved(chat, "#er-export-csv"))))
    assert [(row["source"], row["face_id"], row["label"]) for row in rows] == [
        ("two.jpg", "0", "happiness"),
        ("two.jpg", "1", "happiness"),
    ]


def test_a_folder_is_labeled(chat):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.write(TWO, "holiday/pair.jpg")
    chat.tab("Label a folder")
    label(chat, [upload("one.jpg", ASTRONAUT.read_bytes()), upload("three.jpg", TWO.read_bytes()),
                 upload("more.zip", packed.getvalue(), "application/zip")])  # fmt: skip
    chat.page.locator("#er-progress", has_text="3 done.").wait_for()
    shown = " ".join(chat.page.locator("#er-rows").inner_text().split())
    rows = list(csv.DictReader(io.StringIO(saved(chat, "#er-rows-csv"))))
    assert len(rows) == 5 and {row["label"] for row in rows} == {"happiness"}
    columns = ("source", "face_id", "status", "label", "confidence")
    assert all(" ".join(row[name] for name in columns) in shown for row in rows), shown
    assert any("pair.jpg" in row["source"] for row in rows)


def test_a_zip_bomb_is_refused(chat):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bomb.png", bytes(200 * 2**20))
    chat.tab("Label a folder")
    label(chat, [upload("bomb.zip", packed.getvalue(), "application/zip"), upload("one.jpg", ASTRONAUT.read_bytes())])
    chat.page.locator("#er-progress", has_text="done.").wait_for()
    shown = chat.page.locator("#er-rows").inner_text()
    assert "zip bomb" in shown and "happiness" in shown


def label(chat: Chat, files: list[dict]) -> None:
    chat.page.set_input_files("#er-files input[type=file]", files)
    for file in files:
        chat.page.locator("#er-files", has_text=Path(file["name"]).stem).wait_for()
    chat.page.click("#er-label")


def test_feedback_is_kept_only_when_it_is_allowed(chat):
    kept = chat.site.home / "data" / "emoreason" / "feedback" / "feedback.jsonl"
    chat.show(ASTRONAUT)
    chat.page.locator("#er-chat button[title=Like]").last.click()
    chat.page.get_by_text("Nothing was saved").wait_for()
    assert not kept.exists()
    chat.open("opinion")
    chat.page.locator("#er-opinion", has_text=str(kept)).wait_for()
    chat.page.get_by_label("Save my feedback").check()
    chat.page.locator("#er-chat button[title=Dislike]").last.click()
    wait_for(kept.exists)
    right = chat.page.get_by_label("The right label for the chosen face")
    right.fill("pride")
    chat.page.get_by_role("button", name="Save", exact=True).click()
    wait_for(lambda: right.input_value() == "")
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(row["rated"], row["label"], row["suggested"]) for row in rows] == [
        ("down", None, "happiness"),
        (None, "pride", "happiness"),
    ]
    assert all((kept.parent / row["path"]).is_file() for row in rows)
    assert [sample.id for sample in read(kept)] == [row["id"] for row in rows]  # as finetune reads it


def test_nobody_sees_the_pictures_of_another(browser):
    with visiting(browser, site()) as ann:
        secret = upload("ann-secret.jpg", ASTRONAUT.read_bytes() + b"\0")
        ann.show(secret)
        [file] = site().uploads("ann-secret.jpg")
        with visiting(browser, site()) as bob:
            seen = bob.page.content()
            assert "ann-secret" not in seen and bob.bots.count() == 0 and bob.page.locator(".er-chip").count() == 0
            assert "picture of a face first" in bob.ask("Why not fear?")  # there is no face to ask about
            for guess in (
                file.parent.parent,
                file.parent,
                file.parent.parent / file.name,
                file.parent / "../" / file.name,
            ):
                got = bob.page.request.get(f"{site().address}/gradio_api/file={guess}")
                assert got.status >= 400, guess
            bob.show(TWO)
            assert "ann-secret" not in bob.page.content()
            bob.open("keep")
            assert "ann-secret" not in saved(bob, "#er-export-json")
        assert "happiness" in ann.label() and ann.users.count() == 1
        assert file.exists()  # the other's end takes nothing from her
    wait_for(lambda: not file.exists())


def test_pictures_are_gone_with_their_tab(browser):
    with visiting(browser, site()) as chat:
        chat.show(picture(Image.open(ASTRONAUT).convert("RGB"), "gone.png"))
        chat.show(upload("bad-gone.png", b"no picture"))
        assert len(site().uploads("*gone.png")) == 2
    wait_for(lambda: not site().uploads("*gone.png"))
