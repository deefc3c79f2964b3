"""What heads say of faces that they have not seen, where too few faces are held out to choose and to calibrate by.

Ten heads are trained, each without a tenth of the training and held-out faces. What each says of its tenth chooses the
epoch and is what temperature, operating points and the open-set limit are fitted on. The head that is kept is none of
them: it is trained on the training faces, about as many as each of the ten had, up to that epoch.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from emoreason.train.finetune_config import HeadTraining, LossSettings
from emoreason.train.heads.learned import Judged
from emoreason.train.heads.training import HeadData, Trained, train_head
from emoreason.train.splits import Splits, share_of

if TYPE_CHECKING:
    from emoreason.train.labeled_faces import LabeledFaces

FOLDS = 10
FEW_FACES = 100  # held-out faces with one label; with 160 cross-fitting gained nothing more


def crossfit(
    words: np.ndarray,
    scale: float,
    faces: "LabeledFaces",
    parts: Splits,
    config: HeadTraining,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
    loss: LossSettings = LossSettings(),
) -> tuple[Trained, Judged] | None:
    """The kept head, and what the ten said. None where no fold can do without one of the labels."""
    mine = np.sort(np.concatenate([parts.train, parts.holdout]))
    pairs = folds(faces, mine, seed)
    if not pairs:
        return None
    to_the_end = replace(config, patience=config.epochs)
    loss_of, said, rows = np.zeros(config.epochs + 1), [], np.concatenate([judged for _, judged in pairs])
    for number, (learning, judged) in enumerate(pairs):
        answers: list[np.ndarray] = []  # of every epoch, (m, L)
        log = train_head(words, scale, part_of(faces, learning), part_of(faces, judged), to_the_end, seed,
                         _later(progress, number * config.epochs), loss, watch=answers.append).log  # fmt: skip
        loss_of += len(judged) / len(rows) * np.array([line["held_out"] for line in log])
        said.append(np.stack(answers))
    epoch = int(loss_of.argmin())
    kept = train_head(words, scale, part_of(faces, parts.train), None, replace(config, epochs=epoch), seed, loss=loss)
    own = {line["epoch"]: line["train"] for line in kept.log[1:]}
    lines = [{"epoch": e, "held_out": float(value)} | ({"train": own[e]} if e in own else {})
             for e, value in enumerate(loss_of)]  # fmt: skip
    return replace(kept, log=lines), Judged(rows, np.concatenate([answers[epoch] for answers in said]), len(pairs))


def folds(
    faces: "LabeledFaces", rows: np.ndarray, seed: int, count: int = FOLDS
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(learned from, judged) row numbers: label by label alike, persons and copies on one side. A fold that holds all
    faces of a label is left out: a head that knows nothing of a label is unlike the one that is kept."""
    left, parts = rows, []
    for others in range(count, 1, -1):
        if len(left):
            parts.append(share_of(faces, left, 1 / others, seed + others))
            left = np.setdiff1d(left, parts[-1])
    pairs = [(np.setdiff1d(rows, part), part) for part in (*parts, left) if len(part)]
    labels = set(faces.stratum[rows].tolist())
    return [(learning, part) for learning, part in pairs if set(faces.stratum[learning].tolist()) == labels]


def _later(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    return lambda n: progress(done + n)


def part_of(faces: "LabeledFaces", rows: np.ndarray) -> HeadData:
    return HeadData(faces.features[rows], faces.targets[rows])
