"""What an explainer learns from: files of conversations, put in our words, then faces and tokens in memory."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import Conversation
from emoreason.data import messages
from emoreason.explain.sheet import Sheet
from emoreason.models.encoder import Encoder
from emoreason.train.text.encoding import Coder, Encoded
from emoreason.train.text.foreign_prompts import (
    in_script,
    is_free,
    is_label_question,
    question_of,
    with_label_questions,
)


@dataclass(frozen=True)
class Texts:
    """The conversations of a training, in our script, before they become tokens."""

    given: list[tuple[Path, Conversation]]  # the file that the picture's path is relative to
    free: bool
    question: str  # the most frequent first question of free texts
    digest: str


def read_texts(paths: str, label_share: float = 0.0, seed: int = 0) -> Texts:
    """The files of `paths`; texts of others are put in the words that our explainer is asked with."""
    given: list[tuple[Path, Conversation]] = []
    digest = hashlib.sha256()
    for path in (Path(part.strip()) for part in paths.split(",") if part.strip()):
        before = len(given)
        for conversation in messages.read(path):
            if len(conversation.images) != 1:
                raise EmoreasonError(
                    f"{path}: one picture per conversation was expected, found {len(conversation.images)}"
                )
            given.append((path, conversation))
        if len(given) == before:
            raise EmoreasonError(f"{path} holds no conversation")
        digest.update(path.read_bytes())
    free = any(is_free(conversation) for _, conversation in given)
    asked = Counter(question_of(conversation) for _, conversation in given if not is_label_question(conversation))
    question = asked.most_common(1)[0][0] if free and asked else ""
    if label_share:
        given = with_label_questions(given, label_share, seed)
    return Texts([(path, in_script(conversation)) for path, conversation in given], free, question, digest.hexdigest())


@dataclass(frozen=True)
class Set:
    """One or several files of conversations: crops in memory, texts as tokens."""

    pixels: np.ndarray  # (f, S, S, 3) uint8
    faces: list[int]  # n numbers of pictures
    encoded: list[Encoded]
    sheets: list[Sheet | None]
    digest: str

    def __len__(self) -> int:
        return len(self.encoded)

    def tensor(self, rows: Sequence[int]) -> Tensor:
        """(n, 3, S, S) in 0..1"""
        return torch.from_numpy(self.pixels[[self.faces[row] for row in rows]]).permute(0, 3, 1, 2).float() / 255


def encode_set(texts: Texts, coder: Coder, encoder: Encoder) -> Set:
    pixels: list[np.ndarray] = []
    place: dict[Path, int] = {}
    faces, encoded, sheets = [], [], []
    for path, conversation in texts.given:
        item = coder.conversation(conversation)
        if not item.learned and item.verdict is None:
            continue  # the question alone is too long
        picture = path.parent / conversation.images[0]
        if picture not in place:
            place[picture] = len(pixels)
            try:
                pixels.append(encoder.pixels(Image.open(picture).convert("RGB")))
            except OSError as error:
                raise EmoreasonError(f"{path}: the picture {picture} cannot be opened: {error}") from None
        faces.append(place[picture])
        encoded.append(item)
        sheets.append(sheet_of(conversation))
    if not encoded:
        raise EmoreasonError("no conversation is left: every question is longer than run.max_tokens")
    return Set(np.stack(pixels), faces, encoded, sheets, texts.digest)


def sheet_of(conversation: Conversation) -> Sheet | None:
    evidence = conversation.evidence or {}
    if "units" not in evidence or "probabilities" not in evidence:
        return None
    return Sheet(evidence["units"], evidence["probabilities"])
