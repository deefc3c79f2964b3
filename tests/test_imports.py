"""What may import what: no circle, lazy and type-only imports counted, and the layers of pyproject.toml."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "emoreason"


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(("emoreason", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        found[name] = path
    return found


def imports(source: str, known: set[str]) -> set[str]:
    """The modules that a source imports anywhere: at the top, inside functions, for types only."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in known else str(node.module) for name in names}  # a module, or what is in one
    return found & known


def circle(graph: dict[str, set[str]]) -> str:
    """The arrows of one circle, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return " -> ".join(reversed(error.args[1]))
    return ""


def test_no_import_closes_a_circle():
    known = modules()
    graph = {name: imports(path.read_text(encoding="utf-8"), set(known)) - {name} for name, path in known.items()}
    assert len(graph) > 150 and sum(map(len, graph.values())) > 800  # the graph is not empty
    assert circle(graph) == ""


def test_a_circle_is_found_also_when_it_is_lazy_or_for_types_only():
    known = {"a", "b", "c"}
    sources = {
        "a": "def f():\n    import b\n",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from c import C\n",
        "c": "import a\n",
    }
    graph = {name: imports(source, known) for name, source in sources.items()}
    assert circle(graph) in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c")


def test_layers():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "0 broken" in done.stdout, done.stdout + done.stderr
