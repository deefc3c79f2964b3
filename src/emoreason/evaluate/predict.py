"""A Reasoner as the callable that the evaluation asks for: samples in, predictions out, in real batches."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from emoreason.analysis import Analysis
from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Face, Picture
from emoreason.data.schema import Sample
from emoreason.evaluate import Prediction
from emoreason.faces.detect import whole_picture
from emoreason.media.images import open_picture
from emoreason.reasoner import Reasoner


def predictor(reasoner: Reasoner, detect: bool, batch_size: int, count: Callable[[int], None] = lambda n: None):
    """The same path that labels photos: open, find faces (or take the crop), encode, read."""

    def predict(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
        done = 0
        waiting = iter(samples)
        while chunk := list(islice(waiting, batch_size)):
            opened: dict[str, tuple[Picture, list[Face]]] = {}
            scores: dict[str, float | None] = {}
            for sample in chunk:
                try:
                    picture = open_picture(sample.image)
                    found = reasoner.faces(picture)
                    opened[sample.id] = (picture, found if detect else [whole_picture(picture)])
                    scores[sample.id] = max((face.score for face in found if face.score is not None), default=None)
                except EmoreasonError as error:
                    yield Prediction(sample.id, status="error", error=str(error))
            analyses = reasoner.analyze_faces(list(opened.values()), labels, batch_size)
            for id, analysis in zip(opened, analyses, strict=True):
                yield _prediction(id, analysis, scores[id])
            done += len(chunk)
            count(done)

    return predict


def _prediction(id: str, analysis: Analysis, face_score: float | None) -> Prediction:
    """A benchmark picture shows one person: with several faces found, the largest is the one that was labeled.

    Crops that are answered whole carry the score of a search too, so that the report can tell "all" from "detected"."""
    if not analysis.faces:
        return Prediction(id, status="no_face")
    found = max(analysis.faces, key=lambda face: face.face.quality["size"])
    return Prediction(id, found.status, found.label, found.probabilities, face_score)
