"""Ties it together: pictures in, Analyses out. Command line, labeling, evaluation and Python all call this."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoreason import device
from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.calibration import Calibration
from emoreason.emotions import label_set
from emoreason.encoder import find_bundle, load_encoder
from emoreason.errors import UsageError
from emoreason.evidence import Reader
from emoreason.faces import Detector, Face, find_faces, load_detector, whole_picture
from emoreason.images import Limits, Picture, open_picture
from emoreason.zeroshot import TextCache, ZeroShot, check_labels, load_prompts

DEFAULT_LABELS = "ferplus8"


@dataclass(frozen=True)
class Reasoner:
    """A loaded model. Made by `emoreason.load`."""

    name: str
    reader: Reader
    detector: Detector
    compute: device.Compute
    default_labels: tuple[str, ...]

    @property
    def revision(self) -> str:
        return self.reader.zeroshot.encoder.revision

    @property
    def prompt_id(self) -> str:
        return self.reader.zeroshot.prompts.id

    def analyze(
        self, source: Any, labels: Sequence[str] | None = None, detect: bool = True, limits: Limits = Limits()
    ) -> Analysis:
        """One picture (path, URL, bytes, PIL, numpy, torch) -> its faces, read. Bad input raises EmoreasonError."""
        picture = open_picture(source, limits)
        return self.analyze_faces([(picture, self.faces(picture, detect))], labels)[0]

    def faces(self, picture: Picture, detect: bool = True) -> list[Face]:
        """The faces of an opened picture; without `detect` the whole picture is the face. Safe to call in threads."""
        return find_faces(picture, self.detector) if detect else [whole_picture(picture)]

    def analyze_faces(
        self, pictures: Sequence[tuple[Picture, list[Face]]], labels: Sequence[str] | None = None, batch_size: int = 128
    ) -> list[Analysis]:
        """Pictures whose faces were found already -> Analyses; all faces go through the encoder together."""
        asked = check_labels(labels) if labels is not None else self.default_labels
        faces = [face for _, found in pictures for face in found]
        read: Iterator = iter(())
        if faces:
            features = self.reader.zeroshot.encoder.encode_faces([face.crop for face in faces], batch_size)
            read = iter(self.reader.read(features, asked, faces))
        return [
            Analysis(
                picture,
                self.name,
                self.revision,
                self.prompt_id,
                tuple(FaceAnalysis(face, next(read)) for face in found),
            )
            for picture, found in pictures
        ]

    def label(
        self, paths: Iterable[str | Path], labels: Sequence[str] | None = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Pictures, folders, globs, URLs -> one row per face, as `emoreason label` writes them."""
        from emoreason.label import Job, label_rows

        return label_rows(self, Job(paths=tuple(map(str, paths)), labels=tuple(labels) if labels else None, **options))


def load(
    model: str = "mini",
    *,
    device_name: str = "auto",
    detector: str = "auto",
    prompts: Path | None = None,
    descriptors: bool = False,
    projection: Path | None = None,
    point: str = "accurate",
    threshold: float | None = None,
) -> Reasoner:
    """`mini`, a folder with a model, or an open_clip model such as `ViT-L-14/openai`.

    point: "accurate" or "balanced", the operating points that `mini` brings along.
    threshold: abstain below this confidence, instead of the model's own threshold; 0 never abstains for low confidence.
    """
    compute = device.choose(device_name)
    bundle = find_bundle(model)
    calibration = Calibration.from_spec(bundle.spec["calibration"]) if bundle else Calibration()
    known = tuple(calibration.points) or ("accurate",)
    if point not in known:
        raise UsageError(f"{model} has no operating point {point!r}; it has {', '.join(known)}")
    encoder = load_encoder(model, compute)
    zeroshot = ZeroShot(encoder, load_prompts(prompts, descriptors), TextCache())
    if projection is not None:
        zeroshot = zeroshot.with_projection(projection)
    default = calibration.labels or label_set(DEFAULT_LABELS).labels
    reader = Reader(zeroshot, calibration, point, threshold, own_prompts=prompts is None and not descriptors)
    return Reasoner(encoder.name, reader, load_detector(detector), compute, default)
