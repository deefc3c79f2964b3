"""The table of open models in docs/models.md: computed, and as the publishers count."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = {
    "SmolLM2 135M": 134_515_008,
    "Llama 3.2 1B": 1_235_814_400,
    "Llama 3.1 8B": 8_030_261_248,
    "Vicuna 7B v1.5": 6_738_415_616,
    "Qwen2.5 7B": 7_615_616_512,
    "Qwen2.5-VL 7B": 8_292_166_656,
    "Gemma 3 4B": 4_300_079_472,
}


@pytest.fixture(scope="module")
def counted():
    sys.path.insert(0, str(ROOT / "eval"))
    try:
        import model_memory

        yield [(shape, model_memory.weights(shape)) for shape in model_memory.SHAPES]
    finally:
        sys.path.remove(str(ROOT / "eval"))


def test_the_parameters_are_those_that_the_publishers_count(counted):
    found = {shape.name: weights.parameters for shape, weights in counted if shape.name in PUBLISHED}
    assert found == PUBLISHED


def test_the_table_in_the_docs_is_computed(counted):
    page = (ROOT / "docs" / "models.md").read_text()
    for shape, weights in counted:
        levels = " | ".join(f"{weights.gigabytes(level):.1f}" for level in ("bf16", "8bit", "4bit"))
        assert f"| `{shape.line}` | {weights.parameters / 1e9:.2f} B | {levels} |" in page, shape.name
