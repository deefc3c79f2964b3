"""What users install: the built wheel, in an environment of its own, outside the repository."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from conftest import ROOT

FIND = """
import json
from emoreason import __version__
from emoreason.core import resources
names = ["prompts/labels.yaml", "prompts/descriptors.yaml", "eval/ferplus.yaml", "eval/folder.yaml",
         "examples/astronaut.jpg", "model_cards", "finetune/mini-encoder.yaml"]
print(json.dumps({"version": __version__, "package": str(resources.PACKAGE),
                  "found": {name: str(resources.resource(name)) for name in names}}))
"""


def run(python: Path, *arguments: str, cwd: Path) -> str:
    done = subprocess.run([python, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment that holds the wheel and nothing else."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(home, with_pip=False)
    python = home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run([*pip, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return python


def test_the_wheel_holds_the_package_its_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"emoreason"}
    assert not [name for name in names if "test" in Path(name).name or name.endswith((".pyc", ".parquet", ".ipynb"))]
    for needed in ("apps/cli/main.py", "weights/mini/weights.safetensors", "weights/mini/model.json",
                   "models/model_configs/",
                   "_resources/prompts/labels.yaml", "_resources/eval/ferplus.yaml",
                   "_resources/examples/astronaut.jpg", "_resources/examples/two.jpg",
                   "apps/ui/page.css", "apps/ui/page.js",
                   "apps/ui/words/en.yaml", "_resources/finetune/mini-encoder.yaml"):  # fmt: skip
        assert any(name.startswith(f"emoreason/{needed}") for name in names), needed
    shipped = {Path(name).name for name in names if name.startswith("emoreason/_resources/eval/")}
    assert shipped == {path.name for path in (ROOT / "eval").glob("*.yaml")}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_without_any_dependency_its_files_are_found(installed, tmp_path):
    """-I: neither the repository nor anything of the outer environment can help."""
    report = json.loads(run(installed, "-I", "-c", FIND, cwd=tmp_path))
    home = installed.parent.parent
    assert Path(report["package"]).is_relative_to(home)
    assert all(Path(path).is_relative_to(home) for path in report["found"].values())


def test_with_its_dependencies_it_does_the_main_job(installed, tmp_path):
    """The packages are borrowed from this environment; they stand behind the wheel on the path."""
    where = run(installed, "-I", "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=tmp_path)
    site = Path(where.strip())
    borrowed = {sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]}
    (site / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    where = run(installed, "-I", "-c", "import emoreason; print(emoreason.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    script = installed.with_name("emoreason")
    analysis = json.loads(run(installed, "-I", str(script), "explain", "example", "--json", cwd=tmp_path))
    assert analysis["source"] == "example" and analysis["faces"][0]["label"] == "happiness"
    assert "weights are whole" in run(installed, "-I", str(script), "models", "verify", "mini", cwd=tmp_path)
