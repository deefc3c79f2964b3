"""Follow-up questions about a face: understood, answered inside the evidence, and the answers checked."""

from emoreason.core.resources import resource
from emoreason.explain.check.answers import check_answer
from emoreason.explain.questions.answers import answer
from emoreason.explain.questions.understand import KINDS, Question, settle, understand
from emoreason.explain.sheet import Sheet, ranked
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.train.text.dialogues import training_turns

__all__ = ["KINDS", "Question", "answer", "check_answer", "follow_ups", "settle", "training_turns", "understand"]


def follow_ups(sheet: Sheet) -> list[tuple[str, Question]]:
    """The held-out questions of `eval/followups.yaml` for one face, each with what it asks."""
    import yaml

    best = ranked(sheet.probabilities)
    strongest = next(iter(sheet.visible or sheet.units), "12")
    missing = next((code for code in sheet.units if code not in sheet.visible and code != strongest), "43")
    words = {
        "label": sheet.label,
        "other_label": best[min(1, len(best) - 1)][0],
        "strongest": ACTION_UNITS[strongest].name,
        "missing": ACTION_UNITS[missing].name,
    }
    codes = {"{strongest}": strongest, "{missing}": missing}
    asked = []
    for entry in yaml.safe_load(resource("eval/followups.yaml").read_text(encoding="utf-8"))["questions"]:
        label, unit = entry.get("label"), entry.get("unit")
        question = Question(
            entry["kind"],
            label.format(**words) if label else None,
            codes.get(unit, unit),
            entry.get("region"),
            entry.get("negated", False),
        )
        asked.append((entry["question"].format(**words), question))
    return asked
