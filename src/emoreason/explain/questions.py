"""What a follow-up question asks for."""

from dataclasses import dataclass

POLICY_KINDS = (
    "policy_identity",
    "policy_diagnosis",
    "policy_deception",
    "policy_work_school",
    "policy_attributes",
    "feeling_inside",
)
KINDS = (
    "evidence_for",
    "against",
    "what_would_change",
    "how_sure",
    "why_not",
    "is_it",
    "how_likely",
    "second_best",
    "insist",
    "unit_meaning",
    "unit_present",
    "label_meaning",
    "region",
    "strongest",
    "absent",
    "describe_again",
    "compare",
    "two_readings",
    "method",
    *POLICY_KINDS,
    "other",
)


@dataclass(frozen=True)
class Question:
    """A question by its kind and what it is about."""

    kind: str
    label: str | None = None  # as the sheet spells it, else the canonical emotion word
    unit: str | None = None  # code of an action unit
    region: str | None = None
    negated: bool = False  # the statement that is asked about denies: "Is it true that the brows are not lowered?"
