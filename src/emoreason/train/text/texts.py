"""Loads training conversations: reads the files, converts them to our prompts, and encodes faces and tokens."""

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
from emoreason.train.text.convert_prompts import (
    is_free,
    is_label_question,
    question_of,
    to_our_prompts,
    with_label_questions,
)
from emoreason.train.text.encoding import Coder, Encoded


@dataclass(frozen=True)
class Texts:
    """Training conversations with our prompts, before they are encoded."""

    conversations: list[tuple[Path, Conversation]]  # the path is the file that the picture's path is relative to
    free: bool
    question: str  # the most frequent first question of free texts
    digest: str


def read_texts(paths: str, label_share: float = 0.0, seed: int = 0) -> Texts:
    """Read the files, separated by commas, and convert conversations in other layouts to our prompts."""
    conversations: list[tuple[Path, Conversation]] = []
    digest = hashlib.sha256()
    for path in (Path(part.strip()) for part in paths.split(",") if part.strip()):
        before = len(conversations)
        for conversation in messages.read(path):
            if len(conversation.images) != 1:
                raise EmoreasonError(
                    f"{path}: one picture per conversation was expected, found {len(conversation.images)}"
                )
            conversations.append((path, conversation))
        if len(conversations) == before:
            raise EmoreasonError(f"{path} has no conversation")
        digest.update(path.read_bytes())
    free = any(is_free(conversation) for _, conversation in conversations)
    questions = Counter(
        question_of(conversation) for _, conversation in conversations if not is_label_question(conversation)
    )
    question = questions.most_common(1)[0][0] if free and questions else ""
    if label_share:
        conversations = with_label_questions(conversations, label_share, seed)
    return Texts(
        [(path, to_our_prompts(conversation)) for path, conversation in conversations],
        free,
        question,
        digest.hexdigest(),
    )


@dataclass(frozen=True)
class ConversationSet:
    """Encoded conversations: crops in memory, texts as tokens."""

    pixels: np.ndarray  # (f, S, S, 3) uint8
    faces: list[int]  # (n) for each conversation, the row of its picture in `pixels`
    encoded: list[Encoded]
    sheets: list[Sheet | None]
    digest: str

    def __len__(self) -> int:
        return len(self.encoded)

    def tensor(self, rows: Sequence[int]) -> Tensor:
        """The faces of these rows, (n, 3, S, S) in 0..1."""
        return torch.from_numpy(self.pixels[[self.faces[row] for row in rows]]).permute(0, 3, 1, 2).float() / 255


def encode_set(texts: Texts, coder: Coder, encoder: Encoder) -> ConversationSet:
    pixels: list[np.ndarray] = []
    index_of: dict[Path, int] = {}
    faces, encoded, sheets = [], [], []
    for path, conversation in texts.conversations:
        item = coder.conversation(conversation)
        if not item.learned and item.verdict is None:
            continue  # even the question alone is too long
        picture = path.parent / conversation.images[0]
        if picture not in index_of:
            index_of[picture] = len(pixels)
            try:
                pixels.append(encoder.pixels(Image.open(picture).convert("RGB")))
            except OSError as error:
                raise EmoreasonError(f"{path}: the picture {picture} cannot be opened: {error}") from None
        faces.append(index_of[picture])
        encoded.append(item)
        sheets.append(sheet_of(conversation))
    if not encoded:
        raise EmoreasonError("no conversation is left: all questions are longer than run.max_tokens")
    return ConversationSet(np.stack(pixels), faces, encoded, sheets, texts.digest)


def sheet_of(conversation: Conversation) -> Sheet | None:
    evidence = conversation.evidence or {}
    if "units" not in evidence or "probabilities" not in evidence:
        return None
    sides = {code: tuple(pair) for code, pair in evidence.get("sides", {}).items()}
    return Sheet(evidence["units"], evidence["probabilities"], sides=sides, covered=tuple(evidence.get("covered", ())),
                 yaw=evidence.get("yaw"))  # fmt: skip
