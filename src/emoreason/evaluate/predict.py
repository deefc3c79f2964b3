"""A Reasoner as the callable that the evaluation asks for: samples in, predictions out, in real batches."""

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
    """The path that labels photos: open, find faces (or take the crop), encode, measure."""

    def predict(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
        done = 0
        waiting = iter(samples)
        with ThreadPoolExecutor(cores()) as pool:
            while chunk := list(islice(waiting, batch_size)):
                opened = list(pool.map(lambda sample: open_and_detect(sample.image, reasoner.faces), chunk))
                yield from _predictions(reasoner, chunk, opened, labels, detect)
                done += len(chunk)
                count(done)

    return predict


def _predictions(
    reasoner: Reasoner, samples: Sequence[Sample], opened: Sequence[Opened], labels: Sequence[str], detect: bool
) -> Iterator[Prediction]:
    """Faces are searched for in crops that are read whole too: the report tells "all" from "detected" by the score."""
    pictures = [
        (picture, faces if detect else [whole_picture(picture)]) for one in opened for picture, faces in one.pictures
    ]
    analyses = iter(reasoner.analyze_faces(pictures, labels, len(samples)))
    for sample, one in zip(samples, opened, strict=True):
        if one.error is not None:
            yield Prediction(sample.id, status="error", error=one.error)
        else:
            yield _prediction(sample.id, next(analyses), one.pictures[0][1])


def _prediction(id: str, analysis: Analysis, found: Sequence[Face]) -> Prediction:
    """Of a picture with several faces, the largest one is taken: a benchmark's picture shows one person."""
    by_face = {face.face.face_id: face for face in analysis.faces}
    if (face := largest(face.face for face in analysis.faces)) is None:
        return Prediction(id, status="no_face")
    chosen = by_face[face.face_id]
    score = max((face.score for face in found if face.score is not None), default=None)
    return Prediction(id, chosen.status, chosen.label, chosen.probabilities, score)
