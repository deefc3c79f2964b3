"""Converts conversations in other layouts to emoreason's prompts, and adds questions that ask only for the label."""

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


def has_our_prompts(conversation: Conversation) -> bool:
    """Whether the turns already use the prompts of prompts/explainer.yaml, as `emoreason data describe` writes them."""
    return bool(conversation.provenance.get("prompts"))


def is_free(conversation: Conversation) -> bool:
    """Whether the answers have a free form, without the three sections."""
    return not has_our_prompts(conversation) or conversation.provenance.get("form") == "free"


def question_of(conversation: Conversation) -> str:
    """The first question, without the placeholder of the picture."""
    if "question" in conversation.provenance:
        return str(conversation.provenance["question"])
    first = next(message for message in conversation.messages if message.role == "user")
    return " ".join(first.content.replace(IMAGE, " ").split())


def to_our_prompts(conversation: Conversation, sheet: Sheet | None = None) -> Conversation:
    """Rewrite the turns as: the picture, the measured movements if known, then questions and answers.

    System messages are left out, because the explainer has its own prompts."""
    if has_our_prompts(conversation):
        return conversation
    script = load_prompts()
    turns = [message for message in conversation.messages if message.role != "system"]
    converted = []
    for i, message in enumerate(turns):
        if message.role == "assistant":
            converted.append(message)
            continue
        opening = IMAGE + (script.measured(sheet) if sheet is not None else "") if i == 0 else ""
        converted.append(Message("user", opening + script.turn(message.content.replace(IMAGE, " "))))
    evidence = dict(conversation.evidence or {})
    if sheet is not None:
        evidence |= {"units": sheet.units, "probabilities": sheet.probabilities}
    provenance = conversation.provenance | {"prompts": script.id, "form": "free", "question": question_of(conversation)}
    return replace(conversation, messages=tuple(converted), evidence=evidence or None, provenance=provenance)


def label_of(conversation: Conversation) -> str | None:
    """The known label of the face: ExpLLM's, or the one with the most votes; None if unknown."""
    label = conversation.provenance.get("label")
    votes = (conversation.evidence or {}).get("votes")
    return str(label) if label else max(votes, key=votes.__getitem__) if votes else None


def with_label_questions(
    conversations: Sequence[tuple[Place, Conversation]], share: float, seed: int
) -> list[tuple[Place, Conversation]]:
    """Add questions that ask only for the label, until they are `share` of all conversations (ExpLLM: three in four).

    Each question is about one face; faces repeat if there are too few."""
    if not 0 < share < 1:
        raise EmoreasonError(f"data.label_share {share}: a share between 0 and 1 was expected")
    questions = [pair for pair in conversations if is_label_question(pair[1])]
    descriptions = [pair for pair in conversations if not is_label_question(pair[1])]
    label_questions = questions + [
        (path, replace(c, messages=_label_turn(label)))
        for path, c in descriptions
        if not has_our_prompts(c) and (label := label_of(c))
    ]
    if not label_questions or not descriptions:
        raise EmoreasonError("data.label_share needs your own texts together with labels (ExpLLM's layout has both)")
    random.Random(f"{seed}/labels").shuffle(label_questions)
    wanted = round(len(descriptions) * share / (1 - share))
    return [*descriptions, *(label_questions[i % len(label_questions)] for i in range(wanted))]


def is_label_question(conversation: Conversation) -> bool:
    return question_of(conversation) == EXPLLM_LABEL_QUESTION


def _label_turn(label: str) -> tuple[Message, ...]:
    return Message("user", f"{IMAGE}\n{EXPLLM_LABEL_QUESTION}"), Message("assistant", label)
