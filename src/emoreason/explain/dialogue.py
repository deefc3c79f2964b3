"""Follow-up questions about a face: understood, answered inside the evidence, and the answers checked."""

from emoreason.explain.answer_check import check_answer
from emoreason.explain.answers import answer
from emoreason.explain.questions import KINDS, Question
from emoreason.explain.training import training_turns

__all__ = ["KINDS", "Question", "answer", "check_answer", "training_turns"]
