"""Fits the temperature, prior correction and weight of the verdict on faces outside the training set."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import Conversation
from emoreason.core.probabilities import correct_prior
from emoreason.data import messages
from emoreason.evidence.calibration import fit_temperature
from emoreason.explain.backends.drafts import Draft
from emoreason.explain.explanation import consume
from emoreason.explain.prompts import load_prompts
from emoreason.models.vlm import VisionLanguageModel
from emoreason.train.heads.operating_points import soft_scores
from emoreason.train.text.texts import sheet_of

BATCH = 32
MAX_ACCURACY_LOST = 0.01  # accuracy that may be lost in favour of rare labels
GRID = np.round(np.linspace(0, 1, 21), 2)


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """Verdicts of the model, the evidence and the voters, face by face."""

    scores: np.ndarray  # (n, L) log-probabilities of the labels as continuations, uncalibrated
    evidence: np.ndarray  # (n, L) the evidence's probabilities
    votes: np.ndarray  # (n, L)


def read_verdicts(vlm: VisionLanguageModel, path: Path, labels: tuple[str, ...]) -> Verdicts:
    """Compute the verdict after what the model says is seen, as the explainer does in use."""
    conversations = list(messages.read(path))
    if not conversations:
        raise EmoreasonError(f"{path} has no conversation to fit the verdict on")
    script, line = load_prompts(), vlm.tokenizer.encode("\n")[0]
    scores = []
    for start in range(0, len(conversations), BATCH):
        chunk = conversations[start : start + BATCH]
        crops = [Image.open(path.parent / conversation.images[0]).convert("RGB") for conversation in chunk]
        draft = Draft(vlm, list(vlm.see(crops)), [0] * len(chunk), line)
        sheets = [sheet_of(conversation) for conversation in chunk]
        draft.read([script.measured(sheet) + script.seen for sheet in sheets if sheet is not None])
        consume(draft.write(lambda row, text: [], lambda row: ""))
        draft.read([script.verdict] * len(chunk))
        scores.append(draft.session.score(labels).cpu().numpy())
    evidence = np.array([[_evidence(c)["probabilities"][label] for label in labels] for c in conversations])
    votes = np.array([[_evidence(c)["votes"].get(label, 0.0) for label in labels] for c in conversations])
    return Verdicts(np.concatenate(scores), np.clip(evidence, 1e-6, 1), votes / votes.sum(axis=1, keepdims=True))


def _evidence(conversation: Conversation) -> dict:
    return conversation.evidence or {}


def fit(verdicts: Verdicts, prior: np.ndarray) -> dict[str, float]:
    """Fit the prior correction, then the temperature, then the weight of the verdict.

    The prior correction maximises accuracy + UAR over all votes, with at most one point of accuracy lost. The
    temperature is fitted on the clear majorities. The weight maximises the same sum, among the weights that are no
    worse than the evidence alone in both.
    """
    clear = verdicts.votes.max(axis=1) > 0.5
    target = verdicts.votes.argmax(axis=1)
    scores = [soft_scores(correct_prior(verdicts.scores, prior, strength), verdicts.votes) for strength in GRID]
    strength = _best(scores, scores[0][0] - MAX_ACCURACY_LOST, 0.0)
    corrected = correct_prior(verdicts.scores, prior, strength)
    temperature = fit_temperature(corrected[clear], target[clear])
    own = corrected / temperature
    own = own - np.log(np.exp(own).sum(axis=1, keepdims=True))
    mixed = [soft_scores((1 - w) * np.log(verdicts.evidence) + w * own, verdicts.votes) for w in GRID]
    return {"temperature": round(temperature, 4), "prior_strength": strength, "weight": _best(mixed, *mixed[0])}


def _best(scores: list[tuple[float, float]], accuracy: float, uar: float) -> float:
    """The grid value with the largest accuracy + UAR among those that reach both minimums; the first always does."""
    sums = [a + u if a >= accuracy and u >= uar else -1.0 for a, u in scores]
    return float(GRID[int(np.argmax(sums))])


def calibrate(folder: Path, holdout: Path, training: Path, labels: tuple[str, ...]) -> dict[str, float]:
    """Fit on the holdout file and write the result into explainer.json."""
    import json

    from emoreason.models.vlm import SPEC, ExplainerSpec

    vlm = VisionLanguageModel.from_pretrained(folder)
    votes = [found for c in messages.read(training) if (found := _evidence(c).get("votes"))]
    prior = np.array([np.mean([v.get(label, 0.0) for v in votes]) for label in labels])
    fitted = fit(read_verdicts(vlm, holdout, labels), prior)
    spec = dataclasses.replace(ExplainerSpec.read(folder), verdict=fitted, labels=labels,
                               prior={k: round(float(p), 6) for k, p in zip(labels, prior, strict=True)})  # fmt: skip
    (folder / SPEC).write_text(json.dumps(dataclasses.asdict(spec), indent=2) + "\n", encoding="utf-8")
    return fitted
