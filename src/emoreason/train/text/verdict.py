"""The verdict's temperature, prior and weight, fitted on faces that nothing was trained on."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import Conversation
from emoreason.core.probabilities import correct_prior
from emoreason.data import messages
from emoreason.evidence.calibration import fit_temperature
from emoreason.explain.backends.decoding import Session
from emoreason.explain.prompts import load_prompts
from emoreason.explain.sheet import Sheet
from emoreason.models.vlm import VisionLanguageModel
from emoreason.train.heads.operating_points import soft_scores

BATCH = 32
LOST = 0.01  # accuracy that rare labels may cost
GRID = np.round(np.linspace(0, 1, 21), 2)


@dataclasses.dataclass(frozen=True)
class Read:
    """Row by row: what the model, the evidence and the voters say."""

    scores: np.ndarray  # (n, L) log p of the model's label continuations, as they come
    evidence: np.ndarray  # (n, L) the evidence's probabilities
    votes: np.ndarray  # (n, L)


def read_verdicts(vlm: VisionLanguageModel, path: Path, labels: tuple[str, ...]) -> Read:
    """The verdict behind the observations of each conversation, as the explainer would read it there."""
    waiting = list(messages.read(path))
    if not waiting:
        raise EmoreasonError(f"{path} holds no conversation to fit the verdict on")
    scores = []
    for start in range(0, len(waiting), BATCH):
        chunk = waiting[start : start + BATCH]
        session = Session(vlm, len(chunk))
        crops = [Image.open(path.parent / conversation.images[0]).convert("RGB") for conversation in chunk]
        session.read([_before_verdict(conversation) for conversation in chunk], list(vlm.see(crops)))
        scores.append(session.score(labels).cpu().numpy())
    evidence = np.array([[_evidence(c)["probabilities"][label] for label in labels] for c in waiting])
    votes = np.array([[_evidence(c)["votes"].get(label, 0.0) for label in labels] for c in waiting])
    return Read(np.concatenate(scores), np.clip(evidence, 1e-6, 1), votes / votes.sum(axis=1, keepdims=True))


def _evidence(conversation: Conversation) -> dict:
    return conversation.evidence or {}


def _before_verdict(conversation: Conversation) -> str:
    evidence, script = _evidence(conversation), load_prompts()
    sheet = Sheet(evidence["units"], evidence["probabilities"])
    return f"{script.opening(sheet)} {conversation.messages[1].content}{script.verdict}"


def fit(read: Read, prior: np.ndarray) -> dict[str, float]:
    """How much of the prior to take out, by accuracy + UAR over all votes while accuracy loses no more than a point.

    The temperature by the clear majorities; the verdict's weight in the product by the same sum, among those that
    are no worse than the evidence alone in either.
    """
    clear = read.votes.max(axis=1) > 0.5
    target = read.votes.argmax(axis=1)
    scores = [soft_scores(correct_prior(read.scores, prior, strength), read.votes) for strength in GRID]
    strength = _best(scores, scores[0][0] - LOST, 0.0)
    corrected = correct_prior(read.scores, prior, strength)
    temperature = fit_temperature(corrected[clear], target[clear])
    own = corrected / temperature
    own = own - np.log(np.exp(own).sum(axis=1, keepdims=True))
    mixed = [soft_scores((1 - w) * np.log(read.evidence) + w * own, read.votes) for w in GRID]
    return {"temperature": round(temperature, 4), "prior_strength": strength, "weight": _best(mixed, *mixed[0])}


def _best(scores: list[tuple[float, float]], accuracy: float, uar: float) -> float:
    """The place on the grid with the largest accuracy + UAR among those that reach both; the first one reaches them."""
    sums = [a + u if a >= accuracy and u >= uar else -1.0 for a, u in scores]
    return float(GRID[int(np.argmax(sums))])


def calibrate(folder: Path, holdout: Path, training: Path, labels: tuple[str, ...]) -> dict[str, float]:
    """Fit on the holdout and write it into the folder's explainer.json."""
    import json

    from emoreason.models.vlm import SPEC, ExplainerSpec

    vlm = VisionLanguageModel.from_pretrained(folder)
    votes = [_evidence(c)["votes"] for c in messages.read(training)]
    prior = np.array([np.mean([v.get(label, 0.0) for v in votes]) for label in labels])
    fitted = fit(read_verdicts(vlm, holdout, labels), prior)
    spec = dataclasses.replace(ExplainerSpec.read(folder), verdict=fitted, labels=labels,
                               prior={k: round(float(p), 6) for k, p in zip(labels, prior, strict=True)})  # fmt: skip
    (folder / SPEC).write_text(json.dumps(dataclasses.asdict(spec), indent=2) + "\n", encoding="utf-8")
    return fitted
