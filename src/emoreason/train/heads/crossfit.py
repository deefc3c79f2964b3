"""Cross-fitting: chooses the epoch and calibrates with ten extra heads if too few faces are held out.

Ten heads are trained, each without a tenth of the training and held-out faces, and each answers for the tenth it has
not seen. These answers choose the epoch; temperature, operating points and the open-set limit are fitted on them. The
final head is a separate one: it is trained up to that epoch on the training faces, about as many as each of the ten
had.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from emoreason.train.finetune_config import HeadTraining, LossSettings
from emoreason.train.heads.label_model import HeldOutLogits
from emoreason.train.heads.training import HeadData, TrainedHead, train_head
from emoreason.train.splits import Splits, share_of

if TYPE_CHECKING:
    from emoreason.train.labeled_faces import LabeledFaces

FOLDS = 10
FEW_FACES = 100  # held-out faces with one label; from 160 on cross-fitting did not help


def crossfit(
    prototypes: np.ndarray,
    scale: float,
    faces: "LabeledFaces",
    parts: Splits,
    config: HeadTraining,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
    loss: LossSettings = LossSettings(),
) -> tuple[TrainedHead, HeldOutLogits] | None:
    """The final head and the logits of the ten heads; None if every fold holds all faces of some label."""
    used_rows = np.sort(np.concatenate([parts.train, parts.holdout]))
    pairs = folds(faces, used_rows, seed)
    if not pairs:
        return None
    without_stopping = replace(config, patience=config.epochs)
    loss_of, fold_logits = np.zeros(config.epochs + 1), []
    rows = np.concatenate([left_out for _, left_out in pairs])
    for number, (rest, left_out) in enumerate(pairs):
        epoch_logits: list[np.ndarray] = []  # one (m, L) array per epoch
        log = train_head(prototypes, scale, part_of(faces, rest), part_of(faces, left_out), without_stopping, seed,
                         _offset(progress, number * config.epochs), loss, watch=epoch_logits.append).log  # fmt: skip
        loss_of += len(left_out) / len(rows) * np.array([line["held_out"] for line in log])
        fold_logits.append(np.stack(epoch_logits))
    epoch = int(loss_of.argmin())
    final = train_head(
        prototypes, scale, part_of(faces, parts.train), None, replace(config, epochs=epoch), seed, loss=loss
    )
    train_loss = {line["epoch"]: line["train"] for line in final.log[1:]}
    lines = [{"epoch": e, "held_out": float(value)} | ({"train": train_loss[e]} if e in train_loss else {})
             for e, value in enumerate(loss_of)]  # fmt: skip
    logits = np.concatenate([by_epoch[epoch] for by_epoch in fold_logits])
    return replace(final, log=lines), HeldOutLogits(rows, logits, len(pairs))


def folds(
    faces: "LabeledFaces", rows: np.ndarray, seed: int, count: int = FOLDS
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training rows, left-out rows) of each fold, with equal shares of each label. Persons and copies stay together.

    Skips folds that hold all faces of a label: a head that has never seen a label is too unlike the final one."""
    remaining, parts = rows, []
    for others in range(count, 1, -1):
        if len(remaining):
            parts.append(share_of(faces, remaining, 1 / others, seed + others))
            remaining = np.setdiff1d(remaining, parts[-1])
    pairs = [(np.setdiff1d(rows, part), part) for part in (*parts, remaining) if len(part)]
    labels = set(faces.stratum[rows].tolist())
    return [
        (training_rows, part) for training_rows, part in pairs if set(faces.stratum[training_rows].tolist()) == labels
    ]


def _offset(progress: Callable[[int], None], done: int) -> Callable[[int], None]:
    return lambda n: progress(done + n)


def part_of(faces: "LabeledFaces", rows: np.ndarray) -> HeadData:
    return HeadData(faces.features[rows], faces.targets[rows])
