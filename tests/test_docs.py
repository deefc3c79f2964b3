"""Every shell and Python block of the README and of docs/ runs; links, options and the README's tree are checked.

All shell blocks of a page run in one shell, in a folder with `photo.jpg`, `photos/`, `crops/` and a tiny `ferplus/`;
then its Python blocks run there. A block after `<!-- not run: why -->` is skipped, and few may be.
"""

import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path

import pytest
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [
    *PAGES,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "eval" / "README.md",
    *(ROOT / "model_cards").glob("*.md"),
]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
SKIPPED_AT_MOST = 8
FOREIGN_OPTIONS = {
    "--upgrade",
    "--force-reinstall",
    "--no-deps",
    "--config_file",
    "--nproc-per-node",
}  # of pip, accelerate, torchrun


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    code: str
    why_not: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("code")) + 1, found["language"], found["code"], found["why"])
        for found in BLOCK.finditer(text)
    ]


def runnable(page: Path, *languages: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in languages and block.why_not is None]


@pytest.fixture
def desk(tmp_path, astronaut) -> Path:
    """What a reader of the pages has at hand."""
    face = Image.open(astronaut).convert("RGB")
    face.save(tmp_path / "photo.jpg")
    photos, crops = tmp_path / "photos", tmp_path / "crops"
    photos.mkdir()
    crops.mkdir()
    face.save(photos / "portrait.jpg")
    pair = Image.new("RGB", (1024, 512))
    pair.paste(face, (0, 0))
    pair.paste(ImageOps.mirror(face), (512, 0))
    pair.save(photos / "pair.jpg")
    Image.effect_noise((320, 240), 60).save(photos / "no_face.png")
    crop = face.crop((160, 45, 290, 195)).resize((96, 96))
    for name, image in {"a": crop, "b": ImageOps.mirror(crop), "c": ImageOps.grayscale(crop)}.items():
        image.save(crops / f"{name}.png")
    write_ferplus(tmp_path / "ferplus", crop)
    return tmp_path


def write_ferplus(folder: Path, crop: Image.Image) -> None:
    """The layout of FER+ with pictures that may be shown: one portrait, shifted a little, with made-up votes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for n in range(8):
        buffer = io.BytesIO()
        ImageOps.grayscale(crop).rotate(2 * n - 8).resize((48, 48)).save(buffer, "PNG")
        votes = [0, 10 - n % 3, n % 3, 0, 0, 0, 0, 0, 0, 0]
        rows.append({"image": {"bytes": buffer.getvalue(), "path": f"{n}.png"}, "votes": votes})
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "validation.parquet")


def run_shell(page: Path, folder: Path, command_folder: str) -> str:
    """All shell blocks of the page in one bash that stops at the first command that fails."""
    script = "set -euo pipefail\n"
    for block in runnable(page, "bash", "sh"):
        script += f"echo '# {page.name}:{block.line}'\n{block.code}"
    path = os.pathsep.join([command_folder, str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def run_python(page: Path) -> None:
    """The Python blocks of the page share their names, as they would in a reader's session."""
    names: dict = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for block in runnable(page, "python"):
        place = f"{page.name}:{block.line}"
        if block.code.startswith(">>>"):
            told = io.StringIO()
            runner.run(
                doctest.DocTestParser().get_doctest(block.code, names, place, str(page), block.line),
                out=told.write,
                clear_globs=False,
            )
            assert runner.failures == 0, told.getvalue()
        else:
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs(page, desk, monkeypatch, command_folder):
    monkeypatch.chdir(desk)
    printed = run_shell(page, desk, command_folder) if runnable(page, "bash", "sh") else ""
    run_python(page)
    if page == README:
        shown = answer(
            next(block.code for block in blocks(README) if block.language == "text" and "face 0" in block.code)
        )
        label, percent = answer(printed)
        assert label == shown[0] and abs(percent - shown[1]) <= 3, (
            "the output in the README is of another model: paste a new one"
        )


def answer(printed: str) -> tuple[str, int]:
    found = re.search(r"face 0 .*: (\w+), (?:over |under )?(\d+)%", printed)
    assert found, printed
    return found[1], int(found[2])


def test_few_blocks_are_not_run():
    skipped = [block for page in PAGES for block in blocks(page) if block.why_not is not None]
    assert len(skipped) <= SKIPPED_AT_MOST, [f"{b.page.name}:{b.line}: {b.why_not}" for b in skipped]


@pytest.mark.parametrize("page", LINKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"", page.read_text())
    for target in filter(None, (part for pair in targets for part in pair)):
        if not target.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = target.partition("#")
            there = (page.parent / path).resolve() if path else page
            assert there.exists(), f"{page.name} links to {target}"
            if anchor:
                assert anchor in headings(there), f"{page.name} links to {target}; headings: {sorted(headings(there))}"


def headings(page: Path) -> set[str]:
    """The anchors that a page has."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_options_in_the_pages_exist():
    from typer.main import get_command

    from emoreason.apps.cli.main import app
    from emoreason.train.finetune_config import FinetuneConfig
    from emoreason.train.recipes.exp_clip_config import ExpClipConfig
    from emoreason.train.text.config import ExplainerConfig

    known = FOREIGN_OPTIONS | {"--help"}
    for config in (FinetuneConfig(), ExpClipConfig(), ExplainerConfig()):
        sections = {name: value for name, value in vars(config).items() if is_dataclass(value)}
        known |= {f"--{name}" for name in vars(config)}
        known |= {f"--{name}.{field}" for name, value in sections.items() for field in vars(value)}
    for script in (*(ROOT / "eval").rglob("*.py"), *(ROOT / "finetune").glob("*.py")):
        known |= set(re.findall(r'"(--[a-z-]+)"', script.read_text()))
    waiting = [get_command(app)]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        known |= {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    for page in PAGES:
        mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z._\-]*[a-z]", page.read_text()))
        assert mentioned <= known, f"{page.name}: {sorted(mentioned - known)}"


def test_readme_is_short():
    assert 500 <= len(README.read_text().split()) <= 750
