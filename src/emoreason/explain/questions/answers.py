"""Answers to follow-up questions about a face, as grammars that contain only statements its evidence sheet supports.

The phrases are in `prompts/dialogue.yaml`. This module decides which case applies to a face and fills the slots.
"""

from collections.abc import Callable

from emoreason.core.probabilities import percent
from emoreason.explain.questions.answer_phrases import (
    FaceFacts,
    Slots,
    bare,
    denied,
    listed,
    no_opposites,
    options,
    unit_slots,
    with_band,
    words,
)
from emoreason.explain.questions.understand import POLICY_KINDS, Intent, settle
from emoreason.explain.sheet import CLOSE, Reasoned, Sheet, ranked
from emoreason.explain.write.grammar import Node, Sentence, Text, template, text
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ACTION_UNITS, REGIONS, prototypes_of, typical_units

OPEN = 0.25  # from this probability on, or if it is a close second, readers may differ about a claimed label
NO_REASON = "the face could not be read well enough"

Case = tuple[str, Slots]


def answer(question: Intent, sheet: Sheet, reasoned: Reasoned | None = None, other: Sheet | None = None) -> Node:
    """The grammar of all valid answers: they agree with the evidence and its label."""
    question = settle(question, sheet)
    if question.kind in (*POLICY_KINDS, "other", "method"):
        count = text(str(len(sheet.units)) if sheet.units else "no")
        return options(words()["answers"][question.kind], {"n_units": count})
    face = FaceFacts(sheet)
    if sheet.abstained and not (question.kind in ("unit_meaning", "label_meaning") and _named(question)):
        return options(words()["answers"]["abstained"], {"why": _why(sheet)})
    if question.kind == "compare":
        case, slots = _compare(face, other)
    elif question.kind == "two_readings":
        case, slots = _two_readings(face, reasoned)
    else:
        case, slots = _CASES[question.kind](face, question)
    common = {} if sheet.abstained else face.common
    return options(words()["answers"][question.kind][case], {**common, **slots})


def _named(question: Intent) -> bool:
    return question.unit is not None or question.label is not None


def _why(sheet: Sheet) -> Node:
    return text((sheet.why.strip().rstrip(".") or NO_REASON).replace(": ", ", "))


def _evidence_for(face: FaceFacts, question: Intent) -> Case:
    sheet, support = face.sheet, face.support(face.sheet.label)
    if support:
        return "support", {"support": face.units(support), "clause": face.phrase(support[0])}
    if face.rests and face.absent:
        denial = face.denial(face.absent)
        if not sheet.visible:
            return "rest", {"denial": denial}
        return "rest_moves", {"denial": denial, "units": face.units(face.shown, 1)}
    if sheet.visible:
        return "other", {"units": face.units(face.shown)}
    return "nothing", {}


def _against(face: FaceFacts, question: Intent) -> Case:
    label = face.sheet.label
    contrary, missing = face.contrary(label), face.missing(label)
    slots: Slots = {}
    if missing:
        slots["missing"] = listed(map(bare, missing[:2]))
    if contrary:
        rivals = [r for r, _ in ranked(face.sheet.probabilities) if r != label and contrary[0] in typical_units(r)]
        slots |= {"contrary": face.units(contrary, 1), "rival": text(rivals[0])}
        slots["rival_percent"] = text(percent(face.sheet.probabilities[rivals[0]]))
    if contrary and missing:
        return "both", slots
    return ("contrary" if contrary else "missing" if missing else "nothing"), slots


def _label_in_question(face: FaceFacts, question: Intent) -> tuple[str, Slots]:
    """The label that the question asks about (the second best if it names none) and its slots."""
    label = question.label or face.second[0]
    slots: Slots = {"asked": text(label)}
    if label in face.sheet.probabilities:
        slots["asked_percent"] = text(percent(face.sheet.probabilities[label]))
    return label, slots


def _what_would_change(face: FaceFacts, question: Intent) -> Case:
    label, slots = _label_in_question(face, question)
    if label not in face.sheet.probabilities:
        return "unasked", slots
    if label == face.sheet.label:
        return "same", slots
    own = typical_units(label)
    contrary = [code for code in face.shown if code not in own]
    missing = face.missing(label)
    if missing:
        slots["missing"] = listed(map(bare, missing[:2]))
    if contrary:
        slots["contrary"] = listed(
            template("the {noun}", noun=words()["units"][code]["noun"]) for code in contrary[: 1 if missing else 2]
        )
    if canonical(label) == "neutral" and contrary:
        return "rest", slots
    if missing and contrary:
        return "both", slots
    return ("missing" if missing else "contrary" if contrary and own else "whole"), slots


def _why_not(face: FaceFacts, question: Intent) -> Case:
    label, slots = _label_in_question(face, question)
    if label not in face.sheet.probabilities:
        return "unasked", slots
    if label == face.sheet.label:
        return "same", slots
    if face.sheet.visible:
        slots["units"] = face.units(face.shown, 1)
    if canonical(label) == "neutral" and face.sheet.visible:
        return "rest_moves", slots
    missing, support = face.missing(label), face.support(label)
    if missing:
        slots["missing"] = listed(map(bare, missing[: 2 if face.shown else 3]))
        return ("missing" if face.shown else "missing_rest"), slots
    if support:
        slots["asked_support"] = face.units(support)
        return "present", slots
    return ("unmeasured" if typical_units(label) else "whole"), slots


def _is_it(face: FaceFacts, question: Intent) -> Case:
    label, slots = _label_in_question(face, question)
    slots["grounds"] = face.grounds
    if label not in face.sheet.probabilities:
        return "unasked", slots
    if label == face.sheet.label:
        return "same", slots
    return ("close" if _open(face, label) else "other"), slots


def _open(face: FaceFacts, label: str) -> bool:
    return face.sheet.probabilities[label] >= min(OPEN, CLOSE * face.sheet.confidence)


def _insist(face: FaceFacts, question: Intent) -> Case:
    if question.label is None:
        return "unnamed", {"grounds": face.grounds}
    case, slots = _is_it(face, question)
    return {"same": "agree", "other": "stay"}.get(case, case), slots


def _how_likely(face: FaceFacts, question: Intent) -> Case:
    case, slots = _is_it(face, question)
    return ("other" if case == "close" else case), slots


def _how_sure(face: FaceFacts, question: Intent) -> Case:
    limits = words()["sure"]
    slots: Slots = {"sure": next(phrase for lower, phrase in limits if face.sheet.confidence >= lower)}
    if not face.sheet.calibrated:
        return "uncalibrated", slots
    return ("close" if face.sheet.runner_up else "clear"), slots


def _second_best(face: FaceFacts, question: Intent) -> Case:
    return ("close" if face.sheet.runner_up else "clear"), {}


def _unit_meaning(face: FaceFacts, question: Intent) -> Case:
    if question.unit not in ACTION_UNITS:
        return "unknown", {}
    slots = unit_slots(face.sheet, question.unit)
    if question.unit not in face.sheet.units:
        return "unmeasured", slots
    if face.sheet.abstained:
        return "general", slots
    return ("seen" if question.unit in face.sheet.visible else "unseen"), slots


def _unit_present(face: FaceFacts, question: Intent) -> Case:
    if question.unit not in ACTION_UNITS:
        return "unknown", {}
    slots = unit_slots(face.sheet, question.unit)
    if question.unit not in face.sheet.units:
        return "unmeasured", slots
    band = face.sheet.visible.get(question.unit)
    if band is None and question.unit not in face.sheet.absent:
        return "undecided", slots
    case = ("not_no" if question.negated else "yes") if band else ("not_yes" if question.negated else "no")
    return case + ("_trace" if band == "trace" else ""), slots


def _label_meaning(face: FaceFacts, question: Intent) -> Case:
    label, slots = _label_in_question(face, question)
    if canonical(label) == "neutral":
        return "rest", slots
    prototypes = prototypes_of(label)
    if not prototypes:
        return "whole", slots
    return "units", {**slots, "typical": listed(map(bare, prototypes[0].units[:3]))}


def _region(face: FaceFacts, question: Intent) -> Case:
    region = question.region or "mouth"
    regions = ("mouth", "jaw") if region == "mouth" else (region,)  # a question about the mouth includes its opening
    measured = [code for code in face.sheet.units if ACTION_UNITS[code].region in regions]
    slots: Slots = {"region": text(region)}
    if not measured:
        places = {ACTION_UNITS[code].region for code in face.sheet.units}
        named = [text(place) for place in REGIONS if place in places]
        return "unmeasured", {
            **slots,
            "measured_regions": listed(named) if named else text("none of the others either"),
        }
    shown = no_opposites(code for code in face.sheet.visible if code in measured)
    if not shown:
        absent = [code for code in face.absent if code in measured]
        return ("unseen", {**slots, "region_denial": face.denial(absent)}) if absent else ("undecided", slots)
    return "seen", {**slots, "region_units": face.units(shown, 4), "region_phrase": face.units(shown, 4)}


def _strongest(face: FaceFacts, question: Intent) -> Case:
    if not face.sheet.visible:
        return "nothing", {}
    code, band = next(iter(face.sheet.visible.items()))
    return "seen", {**unit_slots(face.sheet, code), "strongest": with_band(code, band)}


def _absent(face: FaceFacts, question: Intent) -> Case:
    if not face.absent:
        return "nothing", {}
    return "some", {"denials": listed(map(denied, face.absent[:3]))}


def _describe_again(face: FaceFacts, question: Intent) -> Case:
    shown = [unit.code for unit in face.sheet.named]
    shown.sort(key=lambda code: -face.sheet.units[code])
    if shown:
        besides: Node = Text(())
        if len(shown) > 1:
            besides = Sentence(template("[besides|beyond that], there is {units}", units=face.units(shown[1:])))
        return "seen", {"units": face.units(shown, 3), "clause": face.phrase(shown[0]), "besides": besides}
    return ("rest", {"denial": face.denial(face.absent)}) if face.absent else ("nothing", {})


def _compare(face: FaceFacts, other: Sheet | None) -> Case:
    if other is None:
        return "alone", {}
    if other.abstained:
        return "abstained", {"why": _why(other)}
    sheets = (face.sheet, other)

    def shown(sheet: Sheet, against: Sheet) -> Node:
        """The movement that differs most from the other face."""
        codes = sorted(sheet.visible, key=lambda code: against.units.get(code, 0.0) - sheet.units[code])
        return FaceFacts(sheet).units(codes, 1) if codes else text("no movement above the threshold")

    return "faces", {
        "first": shown(*sheets),
        "second_units": shown(*reversed(sheets)),
        "other_label": text(other.label),
        "other_percent": text(percent(other.confidence)),
    }


def _two_readings(face: FaceFacts, reasoned: Reasoned | None) -> Case:
    if reasoned is None:
        return "none", {}
    return ("agree" if reasoned.label == face.sheet.label else "differ"), {"reasoned": text(reasoned.label)}


_CASES: dict[str, Callable[[FaceFacts, Intent], Case]] = {
    "evidence_for": _evidence_for,
    "against": _against,
    "what_would_change": _what_would_change,
    "why_not": _why_not,
    "is_it": _is_it,
    "insist": _insist,
    "how_likely": _how_likely,
    "how_sure": _how_sure,
    "second_best": _second_best,
    "unit_meaning": _unit_meaning,
    "unit_present": _unit_present,
    "label_meaning": _label_meaning,
    "region": _region,
    "strongest": _strongest,
    "absent": _absent,
    "describe_again": _describe_again,
}
