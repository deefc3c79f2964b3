"""The prompts of our own language model: fills prompts/explainer.yaml from the sheets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from emoreason.core.resources import resource
from emoreason.explain.sheet import Placed, Sheet, ranked
from emoreason.knowledge.facs import PLAIN_NAMES

MIN_SHOWN = 0.01  # labels below are only named
TURNED = 20.0  # degrees of yaw from which the prompt mentions it


@dataclass(frozen=True)
class Prompts:
    """The prompts of prompts/explainer.yaml."""

    movements: str
    none: str
    unmeasured: str
    unclear: str
    view: str
    seen: str
    verdict: str
    label: str
    no_label: str
    no_label_shares: str
    point: str
    small: str
    reading: str
    weighing: str
    face: str
    asked: str
    explained: str
    question: str
    about: str
    about_all: str
    answer: str
    id: str

    def measured(self, sheet: Sheet) -> str:
        """The movements of a face and how well it can be seen; no label."""
        if not sheet.units:
            return self.movements.format(units=self.unmeasured, unclear="", view="")
        shown = [unit.code for unit in sheet.named] if sheet.brief else sheet.sure
        units = "; ".join(self._movement(sheet, code) for code in shown) or self.none
        doubtful = ", ".join(PLAIN_NAMES[code] for code in sheet.unclear)
        unclear = self.unclear.format(units=doubtful) if doubtful else ""
        return self.movements.format(units=units, unclear=unclear, view=self._view(sheet))

    def disclosure(self, sheet: Sheet) -> str:
        """The label with the whole distribution, or why there is none."""
        point = ""
        if sheet.units and sheet.valence is not None and sheet.arousal is not None:
            point = self.point.format(valence=sheet.valence, arousal=sheet.arousal)
        shares = self._shares(sheet)
        if not sheet.abstained:
            return self.label.format(shares=shares, trust=sheet.trust, point=point)
        shown = self.no_label_shares.format(shares=shares, trust=sheet.trust) if sheet.units else ""
        return self.no_label.format(why=sheet.why, shares=shown, point=point)

    def faces(self, faces: Sequence[Placed], asked: int) -> str:
        """All faces in view with their labels; `asked` is the index of the one that the question is about."""
        lines = []
        for i, face in enumerate(faces):
            place = f" of {len(faces)}, {face.place}" if face.place else ""
            head = self.face.format(number=face.number, place=place, mark=self.asked if i == asked else "")
            lines.append((head + self.measured(face.sheet) + self.disclosure(face.sheet)).replace("\n", " ").strip())
        return "\n" + "\n".join(lines)

    def turn(self, question: str, about: Sequence[int] = (), of: int = 1) -> str:
        """A question; `about`: numbers of the faces that it is about, if there are several in view."""
        numbers = " and ".join(map(str, about))
        faces = ""
        if of > 1 and about:
            faces = self.about_all if len(about) == of else self.about.format(numbers=numbers, s="s"[: len(about) - 1])
        return self.question.format(faces=faces, question=" ".join(question.split())) + self.answer

    def _movement(self, sheet: Sheet, code: str) -> str:
        side = sheet.stronger_side(code)
        return f"AU{code} {PLAIN_NAMES[code]}, {sheet.visible[code]}" + (f", more on the {side}" if side else "")

    def _view(self, sheet: Sheet) -> str:
        parts = [f"hidden: {', '.join(sheet.covered)}"] if sheet.covered else []
        if sheet.yaw is not None and abs(sheet.yaw) >= TURNED:
            side = "right" if sheet.yaw > 0 else "left"
            parts.append(f"head turned {abs(sheet.yaw):.0f}° to the {side} of the picture")
        return self.view.format(view="; ".join(parts)) if parts else ""

    def _shares(self, sheet: Sheet) -> str:
        # not core.probabilities.percent: the adapter is trained on prompts with this number format
        shown = [f"{label} {100 * p:.0f}" for label, p in ranked(sheet.probabilities) if p >= MIN_SHOWN]
        small = [label for label, p in ranked(sheet.probabilities) if p < MIN_SHOWN]
        return ", ".join([*shown, *([self.small.format(labels=", ".join(small))] if small else [])])


@cache
def load_prompts() -> Prompts:
    import yaml

    source = resource("prompts/explainer.yaml").read_text(encoding="utf-8")
    fields = yaml.safe_load(source)
    fields.pop("version")
    return Prompts(**fields, id=hashlib.sha256(source.encode()).hexdigest()[:12])
