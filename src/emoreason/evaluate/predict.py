"""Wraps a Reasoner as the `predict` callable of an evaluation: samples in, predictions out, in batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from emoreason.analysis import Analysis
from emoreason.core.device import cores
from emoreason.core.types import Face
from emoreason.data.schema import Sample
from emoreason.evaluate.predictions import Prediction
from emoreason.faces.detect import whole_picture
from emoreason.pipeline import Opened, largest, open_and_detect
from emoreason.reasoner import Reasoner


def predictor(reasoner: Reasoner, detect: bool, batch_size: int, count: Callable[[int], None] = lambda n: None):
    """The callable. It works like `emoreason label`: open, find faces (or take the crop), encode, measure."""

    def predict(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
        done = 0
        remaining = iter(samples)
        with ThreadPoolExecutor(cores()) as pool:
            while chunk := list(islice(remaining, batch_size)):
                opened = list(pool.map(lambda sample: open_and_detect(sample.image, reasoner.faces), chunk))
                yield from _predictions(reasoner, chunk, opened, labels, detect)
                done += len(chunk)
                count(done)

    return predict


def _predictions(
    reasoner: Reasoner, samples: Sequence[Sample], opened: Sequence[Opened], labels: Sequence[str], detect: bool
) -> Iterator[Prediction]:
    """Detection runs even if the whole crop is used as the face: the report needs its score for "detected" faces."""
    pictures = [
        (picture, faces if detect else [whole_picture(picture)])
        for entry in opened
        for picture, faces in entry.pictures
    ]
    analyses = iter(reasoner.analyze_faces(pictures, labels, len(samples)))
    for sample, entry in zip(samples, opened, strict=True):
        if entry.error is not None:
            yield Prediction(sample.id, status="error", error=entry.error)
        else:
            yield _prediction(sample.id, next(analyses), entry.pictures[0][1])


def _prediction(id: str, analysis: Analysis, found: Sequence[Face]) -> Prediction:
    """Benchmark pictures show one person, so if several faces are found we score the largest."""
    by_face = {face.face.face_id: face for face in analysis.faces}
    if (face := largest(face.face for face in analysis.faces)) is None:
        return Prediction(id, status="no_face")
    chosen = by_face[face.face_id]
    score = max((face.score for face in found if face.score is not None), default=None)
    return Prediction(id, chosen.status, chosen.label, chosen.probabilities, score)
