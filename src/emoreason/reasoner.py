"""Ties it together: pictures in, Analyses out. Command line, labeling, evaluation and Python all call this."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoreason import pipeline
from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.core import device
from emoreason.core.errors import UsageError
from emoreason.core.types import Face, Picture
from emoreason.evidence.calibration import Calibration
from emoreason.evidence.head import LabelHead
from emoreason.evidence.measures import Measures
from emoreason.evidence.reader import Reader
from emoreason.evidence.zeroshot import TextCache, ZeroShot, check_labels, load_label_prompts
from emoreason.faces.detect import Detector, load_detector
from emoreason.knowledge.emotions import label_set, valence_arousal
from emoreason.media.images import Limits, open_picture
from emoreason.models.bundle import find_bundle
from emoreason.models.encoder import load_encoder

if TYPE_CHECKING:
    from emoreason.explain.explanation import Explainer, Piece, Question, Style

DEFAULT_LABELS = "ferplus8"


@dataclass(frozen=True)
class Reasoner:
    """A loaded model. Made by `emoreason.load`."""

    name: str
    reader: Reader
    detector: Detector
    compute: device.Compute
    default_labels: tuple[str, ...]
    explainer_name: str = "none"  # loaded when something is to be explained for the first time
    explainer_model: str = ""
    quantize: str | None = None
    folder: Path | None = None  # of one of our models: its card and its figures lie there

    @cached_property
    def explainer(self) -> "Explainer | None":
        from emoreason.explain.backends.factory import load_explainer

        encoder = self.reader.zeroshot.encoder
        encoder = encoder.untuned or encoder
        return load_explainer(self.explainer_name, model=self.explainer_model, quantize=self.quantize,
                              device=self.compute.device, encoder=encoder)  # fmt: skip

    @property
    def has_words(self) -> bool:
        """Whether it can explain. Nothing is loaded to tell."""
        return self.explainer_name != "none"

    @property
    def revision(self) -> str:
        return self.reader.revision

    @property
    def prompt_id(self) -> str:
        return self.reader.zeroshot.prompts.id

    def analyze(
        self,
        source: Any,
        labels: Sequence[str] | None = None,
        detect: bool = True,
        limits: Limits = Limits(),
        explain: bool = True,
        decide: str = "evidence",
        manner: "Style | None" = None,
    ) -> Analysis:
        """One picture (path, URL, bytes, PIL, numpy, torch) -> its faces, read and explained.

        explain=False leaves the words out, which is much faster. Bad input raises EmoreasonError.
        """
        from emoreason.explain.explanation import consume

        picture = open_picture(source, limits)
        analysis = self.analyze_faces([(picture, self.faces(picture, detect))], labels)[0]
        return consume(self.explain([analysis], decide, manner))[0] if explain else analysis

    def explain(
        self, analyses: Sequence[Analysis], decide: str = "evidence", manner: "Style | None" = None
    ) -> "Generator[Piece, None, list[Analysis]]":
        """Write the explanations of all faces at once, piece by piece; the value is the analyses with them.

        Piece.row counts the faces through all analyses. decide: evidence, reasoned or both (see `--decide`)."""
        from emoreason.explain.explanation import Style, Subject, check_decide
        from emoreason.explain.sheet import Sheet

        check_decide(decide)
        found = [face for analysis in analyses for face in analysis.faces]
        if self.explainer is None or not found:
            return list(analyses)
        manner = manner or Style()
        subjects = [Subject(Sheet.of(face.evidence, manner.brief), face.face.crop) for face in found]
        written = yield from self.explainer.explain(subjects, decide, manner)
        explained = iter(
            face if decide == "evidence" else _decided(face, explanation.sheet.probabilities)
            for face, explanation in zip(found, written, strict=True)
        )
        texts = iter(written)
        return [
            replace(analysis, faces=tuple(replace(next(explained), explanation=next(texts)) for _ in analysis.faces))
            for analysis in analyses
        ]

    def answer(
        self, questions: "Sequence[Question]", manner: "Style | None" = None
    ) -> "Generator[Piece, None, list[str]]":
        """Follow-up questions about faces, piece by piece; Piece.row counts the questions."""
        from emoreason.explain.explanation import Style

        if self.explainer is None:
            raise UsageError(f"{self.name} has no language model to answer with: give one with --explainer")
        return (yield from self.explainer.answer(questions, manner or Style()))

    def faces(self, picture: Picture, detect: bool = True) -> list[Face]:
        """The faces of an opened picture; without `detect` the whole picture is the face. Safe to call in threads."""
        return pipeline.detect(picture, self.detector if detect else None)

    def analyze_faces(
        self, pictures: Sequence[tuple[Picture, list[Face]]], labels: Sequence[str] | None = None, batch_size: int = 128
    ) -> list[Analysis]:
        """Pictures whose faces were found already -> Analyses; all faces go through the encoder together."""
        asked = check_labels(labels) if labels is not None else self.default_labels
        measured = pipeline.measure(pictures, self.reader, asked, batch_size)
        return [
            Analysis(picture, self.name, self.revision, self.prompt_id, tuple(map(FaceAnalysis, faces, evidence)))
            for (picture, faces), evidence in zip(pictures, measured, strict=True)
        ]

    def chat(
        self, messages: Sequence[Any], stream: bool = False, labels: Sequence[str] | None = None, **options: Any
    ) -> "Iterator[str] | str":
        """The answer to a conversation about pictures (see emoreason.chat); with `stream` piece by piece."""
        from emoreason.chat import ChatOptions, chat

        pieces = chat(self, messages, ChatOptions(labels, **options))
        return pieces if stream else "".join(pieces)

    def label(
        self, paths: Iterable[str | Path], labels: Sequence[str] | None = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Pictures, folders, globs, URLs -> one row per face, as `emoreason label` writes them."""
        from emoreason.label import LabelJob, label_rows

        return label_rows(
            self, LabelJob(paths=tuple(map(str, paths)), labels=tuple(labels) if labels else None, **options)
        )


def _decided(face: FaceAnalysis, probabilities: dict[str, float]) -> FaceAnalysis:
    """The face with the distribution that decided; what the evidence said is kept beside it."""
    best = max(probabilities, key=lambda label: probabilities[label])
    valence, arousal = valence_arousal(probabilities) or (None, None)
    if face.evidence.point_measured:  # it was not made of the probabilities
        valence, arousal = face.evidence.valence, face.evidence.arousal
    evidence = replace(face.evidence, probabilities=probabilities, label=best, confidence=probabilities[best],
                       valence=valence, arousal=arousal)  # fmt: skip
    return replace(face, evidence=evidence, measured=face.evidence)


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
    explainer: str = "auto",
    explainer_model: str = "",
    quantize: str | None = None,
) -> Reasoner:
    """`mini`, a folder with a model, or an open_clip model such as `ViT-L-14/openai`.

    explainer: auto (the model's own, where it has one), none, or what `--explainer` takes; loaded when it is needed.
    explainer_model: the model's name, where the explainer is an endpoint. quantize: the explainer's weights.

    point: "accurate" or "balanced", the operating points that `mini` brings along.
    threshold: abstain below this confidence, instead of the model's own threshold; 0 never abstains for low confidence.
    """
    compute = device.choose(device_name)
    named = find_bundle(model)
    head = LabelHead.load(named) if named and named.base is not None and named.spec["labels"] else None
    bundle = find_bundle(named.base) if named and named.base is not None else named
    moved = head is not None and named is not None and named.spec.get("what", "head") != "head"
    # A tuned tower sees other embeddings than the base model's calibration was fitted on.
    base = Calibration.from_spec(bundle.spec["calibration"]) if bundle and not moved else Calibration()
    calibration = head.calibration if head else base
    known = tuple(calibration.points) or ("accurate",)
    if point not in known:
        raise UsageError(f"{model} has no operating point {point!r}; it has {', '.join(known)}")
    if head and projection is not None:
        raise UsageError(f"--projection maps an encoder's embeddings, and {model} has a head that was trained on them")
    encoder = load_encoder(model, compute)
    zeroshot = ZeroShot(encoder, load_label_prompts(prompts, descriptors), TextCache())
    if projection is not None:
        zeroshot = zeroshot.with_projection(projection)
    default = head.labels if head else calibration.labels or label_set(DEFAULT_LABELS).labels
    measures = Measures.load(named.folder) if named else None
    reader = Reader(zeroshot, calibration, point, threshold, prompts is None and not descriptors, head, base, measures)
    if explainer == "auto":
        from emoreason.explain.backends.factory import OWN_FOLDER

        places = [found.folder / OWN_FOLDER for found in (named, bundle) if found]  # a run's own words go first
        explainer = next((str(own) for own in places if (own / "explainer.json").is_file()), "none")
    return Reasoner(
        named.spec["name"] if named else encoder.name,
        reader,
        load_detector(detector),
        compute,
        default,
        explainer,
        explainer_model,
        quantize,
        named.folder if named else None,
    )
