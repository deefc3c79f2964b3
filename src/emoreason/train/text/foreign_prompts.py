"""Conversations of others, put in the words that our explainer is asked with; and the question for the label alone."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.data.messages import EXPLLM_LABEL_QUESTION
from emoreason.explain.prompts import load_prompts
from emoreason.explain.sheet import Sheet

Place = TypeVar("Place", bound=Path)


def is_ours(conversation: Conversation) -> bool:
    """`emoreason data describe` or we ourselves wrote it: the turns are prompts of prompts/explainer.yaml."""
    return bool(conversation.provenance.get("prompts"))


def is_free(conversation: Conversation) -> bool:
    """Its answers are of any form."""
    return not is_ours(conversation) or conversation.provenance.get("form") == "free"


def question_of(conversation: Conversation) -> str:
    """What is asked first, without the mark of the picture."""
    if "question" in conversation.provenance:
        return str(conversation.provenance["question"])
    first = next(message for message in conversation.messages if message.role == "user")
    return " ".join(first.content.replace(IMAGE, " ").split())


def in_script(conversation: Conversation, sheet: Sheet | None = None) -> Conversation:
    """The picture, the measured movements where they are known, then question and answer by turns.

    A system text is left out: the explainer has prompts of its own."""
    if is_ours(conversation):
        return conversation
    script = load_prompts()
    turns = [message for message in conversation.messages if message.role != "system"]
    put = []
    for i, message in enumerate(turns):
        if message.role == "assistant":
            put.append(message)
            continue
        opening = IMAGE + (script.measured_units(sheet) if sheet is not None else "") if i == 0 else ""
        put.append(Message("user", opening + script.turn(message.content.replace(IMAGE, " "))))
    evidence = dict(conversation.evidence or {})
    if sheet is not None:
        evidence |= {"units": sheet.units, "probabilities": sheet.probabilities}
    provenance = conversation.provenance | {"prompts": script.id, "form": "free", "question": question_of(conversation)}
    return replace(conversation, messages=tuple(put), evidence=evidence or None, provenance=provenance)


def label_of(conversation: Conversation) -> str | None:
    """The label that is known of the face: ExpLLM's, or the first of the votes."""
    label = conversation.provenance.get("label")
    votes = (conversation.evidence or {}).get("votes")
    return str(label) if label else max(votes, key=votes.__getitem__) if votes else None


def with_label_questions(
    given: Sequence[tuple[Place, Conversation]], share: float, seed: int
) -> list[tuple[Place, Conversation]]:
    """Beside the descriptions, questions for the label alone, so that they are `share` of all (ExpLLM: three in four).

    Each has the label of one face; faces are taken again where there are too few."""
    if not 0 < share < 1:
        raise EmoreasonError(f"data.label_share {share}: a share between 0 and 1 was expected")
    short = [pair for pair in given if is_label_question(pair[1])]
    long = [pair for pair in given if not is_label_question(pair[1])]
    known = short + [
        (path, replace(c, messages=_label_turn(label))) for path, c in long if not is_ours(c) and (label := label_of(c))
    ]
    if not known or not long:
        raise EmoreasonError(
            "data.label_share needs texts of your own with labels beside them (ExpLLM's layout has both)"
        )
    random.Random(f"{seed}/labels").shuffle(known)
    wanted = round(len(long) * share / (1 - share))
    return [*long, *(known[i % len(known)] for i in range(wanted))]


def is_label_question(conversation: Conversation) -> bool:
    return question_of(conversation) == EXPLLM_LABEL_QUESTION


def _label_turn(label: str) -> tuple[Message, ...]:
    return Message("user", f"{IMAGE}\n{EXPLLM_LABEL_QUESTION}"), Message("assistant", label)
