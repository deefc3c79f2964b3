"""The main entry point: load() returns a Reasoner, which turns pictures into Analyses."""

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
from emoreason.evidence.meanings import Meanings
from emoreason.evidence.measures import Measures
from emoreason.evidence.reader import Reader
from emoreason.evidence.zeroshot import TextCache, ZeroShot, check_labels, load_label_prompts
from emoreason.faces.detect import Detector, load_detector
from emoreason.knowledge.emotions import label_set, valence_arousal
from emoreason.media.images import Limits, open_picture
from emoreason.models.bundle import find_bundle
from emoreason.models.encoder import check_name, load_encoder

if TYPE_CHECKING:
    from emoreason.explain.explanation import Answer, Explainer, Piece, Question, Style

DEFAULT_LABELS = "ferplus8"


@dataclass(frozen=True)
class Reasoner:
    """A loaded model, as `emoreason.load` returns it."""

    name: str
    reader: Reader
    detector: Detector
    compute: device.Compute
    default_labels: tuple[str, ...]
    explainer_name: str = "none"  # the explainer is loaded on first use
    explainer_model: str = ""
    quantize: str | None = None
    folder: Path | None = None  # the folder of a bundled or fine-tuned model, with its card and figures; None otherwise

    @cached_property
    def explainer(self) -> "Explainer | None":
        from emoreason.explain.backends.factory import load_explainer

        encoder = self.reader.zeroshot.encoder
        encoder = encoder.untuned or encoder
        return load_explainer(self.explainer_name, model=self.explainer_model, quantize=self.quantize,
                              device=self.compute.device, encoder=encoder)  # fmt: skip

    @property
    def has_words(self) -> bool:
        """Whether the model can explain and chat. Answers without loading the explainer."""
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
        style: "Style | None" = None,
    ) -> Analysis:
        """Find, measure and explain the faces of one picture (path, URL, bytes, PIL, numpy or torch).

        explain=False skips the explanations, which is much faster. Bad input raises EmoreasonError.
        """
        from emoreason.explain.explanation import consume

        picture = open_picture(source, limits)
        analysis = self.analyze_faces([(picture, self.faces(picture, detect))], labels)[0]
        return consume(self.explain([analysis], decide, style))[0] if explain else analysis

    def explain(
        self, analyses: Sequence[Analysis], decide: str = "evidence", style: "Style | None" = None
    ) -> "Generator[Piece, None, list[Analysis]]":
        """Explain all faces together. Yields text piece by piece and returns the analyses with their explanations.

        Piece.row is the index of the face, counted over all analyses. decide: evidence, reasoned or both (see
        `--decide`)."""
        from emoreason.explain.explanation import Style, Subject, check_decide
        from emoreason.explain.sheet import Sheet

        check_decide(decide)
        all_faces = [face for analysis in analyses for face in analysis.faces]
        if self.explainer is None or not all_faces:
            return list(analyses)
        style = style or Style()
        subjects = [Subject(Sheet.of(face.evidence, style.brief), face.face.crop) for face in all_faces]
        explanations = yield from self.explainer.explain(subjects, decide, style)
        decided = iter(
            face if decide == "evidence" else _with_decision(face, explanation.sheet.probabilities)
            for face, explanation in zip(all_faces, explanations, strict=True)
        )
        remaining = iter(explanations)
        return [
            replace(analysis, faces=tuple(replace(next(decided), explanation=next(remaining)) for _ in analysis.faces))
            for analysis in analyses
        ]

    def answer(
        self, questions: "Sequence[Question]", style: "Style | None" = None
    ) -> "Generator[Piece, None, list[Answer]]":
        """Answer questions about faces. Yields text piece by piece; Piece.row is the index of the question."""
        from emoreason.explain.explanation import Style

        if self.explainer is None:
            raise UsageError(f"{self.name} has no language model to answer with: name one with --explainer")
        return (yield from self.explainer.answer(questions, style or Style()))

    def faces(self, picture: Picture, detect: bool = True) -> list[Face]:
        """The faces of an opened picture. Without `detect` the whole picture is one face. Thread-safe."""
        return pipeline.detect(picture, self.detector if detect else None)

    def analyze_faces(
        self, pictures: Sequence[tuple[Picture, list[Face]]], labels: Sequence[str] | None = None, batch_size: int = 128
    ) -> list[Analysis]:
        """Measure pictures whose faces were found already; all faces go through the encoder together."""
        checked = check_labels(labels) if labels is not None else self.default_labels
        measured = pipeline.measure(pictures, self.reader, checked, batch_size)
        return [
            Analysis(picture, self.name, self.revision, self.prompt_id, tuple(map(FaceAnalysis, faces, evidence)))
            for (picture, faces), evidence in zip(pictures, measured, strict=True)
        ]

    def chat(
        self, messages: Sequence[Any], stream: bool = False, labels: Sequence[str] | None = None, **options: Any
    ) -> "Iterator[str] | str":
        """The reply to a conversation about pictures (see emoreason.chat); with `stream`, an iterator of its pieces."""
        from emoreason.chat import ChatOptions, chat

        pieces = chat(self, messages, ChatOptions(labels, **options))
        return pieces if stream else "".join(pieces)

    def label(
        self, paths: Iterable[str | Path], labels: Sequence[str] | None = None, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """Yields one row per face of pictures, folders, globs and URLs, as `emoreason label` writes them."""
        from emoreason.label import LabelJob, label_rows

        return label_rows(
            self, LabelJob(paths=tuple(map(str, paths)), labels=tuple(labels) if labels else None, **options)
        )


def _with_decision(face: FaceAnalysis, probabilities: dict[str, float]) -> FaceAnalysis:
    """The face with the deciding distribution as its evidence; the measured evidence moves to `measured`."""
    best = max(probabilities, key=lambda label: probabilities[label])
    valence, arousal = valence_arousal(probabilities) or (None, None)
    if face.evidence.point_measured:  # not derived from the probabilities
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
    point: str = "",
    threshold: float | None = None,
    explainer: str = "auto",
    explainer_model: str = "",
    quantize: str | None = None,
) -> Reasoner:
    """Load `mini`, a folder with a model, or an open_clip model such as `ViT-L-14/openai`.

    explainer: auto (the model's own, if it has one), none, or any value of `--explainer`; it is loaded on first use.
    explainer_model: the name of the model, if the explainer is an endpoint.
    quantize: how to quantize the explainer's weights.
    point: an operating point of the model; those of `mini` are "photo" (the default), "accurate" and "balanced".
    threshold: abstain below this confidence instead of the model's own threshold; 0 never abstains for low confidence.
    """
    # What may be misspelled comes first: torch takes a second to import.
    check_name(model)
    finds_faces, label_prompts = load_detector(detector), load_label_prompts(prompts, descriptors)
    named = find_bundle(model)
    head = LabelHead.load(named) if named and named.base is not None and named.spec["labels"] else None
    bundle = find_bundle(named.base) if named and named.base is not None else named
    base = Calibration.from_spec(bundle.spec["calibration"]) if bundle else Calibration()
    calibration = head.calibration if head else base
    known = tuple(calibration.points) or ("accurate",)
    if point and point not in known:
        raise UsageError(f"{model} has no operating point {point!r}; it has {', '.join(known)}")
    if head and projection is not None:
        raise UsageError(
            f"--projection changes the embeddings that the head of {model} was trained on: leave one of them out"
        )
    compute = device.choose(device_name)
    encoder = load_encoder(model, compute)
    zeroshot = ZeroShot(encoder, label_prompts, TextCache())
    if projection is not None:
        zeroshot = zeroshot.with_projection(projection)
    default = head.labels if head else calibration.labels or label_set(DEFAULT_LABELS).labels
    measures = Measures.load(named.folder) if named else None
    meanings = Meanings.load(bundle.folder, encoder) if bundle else None
    own_prompts = prompts is None and not descriptors
    reader = Reader(zeroshot, calibration, point, threshold, own_prompts, head, base, measures, meanings)
    if explainer == "auto":
        from emoreason.explain.backends.factory import OWN_FOLDER

        folders = [
            found.folder / OWN_FOLDER for found in (named, bundle) if found
        ]  # the fine-tuned model's own goes first
        explainer = next((str(own) for own in folders if (own / "explainer.json").is_file()), "none")
    return Reasoner(
        named.spec["name"] if named else encoder.name,
        reader,
        finds_faces,
        compute,
        default,
        explainer,
        explainer_model,
        quantize,
        named.folder if named else None,
    )
