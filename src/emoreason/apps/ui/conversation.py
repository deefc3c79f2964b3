"""The conversation of one browser tab: messages, settings, analyses and answers."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.chat import Memory
from emoreason.explain.explanation import Style

STORED_SIDE = 1280  # pixels of the longer side of a stored picture; the analysis uses the full size


@dataclass(frozen=True)
class Settings:
    model: str
    labels: tuple[str, ...] | None = None  # None: the model's own
    detect: bool = True
    decide: str = "evidence"
    style: Style = Style()


@dataclass
class Exchange:
    """One message of the user and the answer to it."""

    text: str  # what the user wrote, "" if only pictures
    names: tuple[str, ...]  # of the pictures in the message
    settings: Settings
    analyses: tuple[Analysis, ...] = ()  # one per picture; faces get their explanation when it is ready
    first: int = 0  # number of the first face; faces are numbered from 1 through the whole conversation
    answer: str = ""  # to a question, or the text shown if there is no face
    about: tuple[int, ...] = ()  # numbers of the faces the question was about
    error: str = ""
    stopped: bool = False
    uploads: tuple[Path, ...] = ()  # the original pictures, to read again on retry or edit
    thumbnails: tuple[str, ...] = ()  # data URIs
    memory_before: Memory = field(default_factory=Memory)  # to restore when this exchange is removed
    writing: dict[int, str] = field(default_factory=dict)  # unfinished texts by face number
    ahead: int | None = None  # requests ahead in the queue
    loading: bool = False  # waiting for the model to load
    running: bool = True

    def faces(self) -> list[tuple[int, Analysis, FaceAnalysis]]:
        """All faces as (number, analysis of the picture, face)."""
        pairs = [(analysis, face) for analysis in self.analyses for face in analysis.faces]
        return [(number, analysis, face) for number, (analysis, face) in enumerate(pairs, self.first)]


@dataclass
class PageConversation:
    exchanges: list[Exchange] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    chosen: int | None = None  # number of the face in the evidence panel
    stop: Event = field(default_factory=Event)  # stops the current answer

    def faces(self) -> list[tuple[int, Analysis, FaceAnalysis]]:
        return [entry for exchange in self.exchanges for entry in exchange.faces()]

    def face(self, number: int) -> tuple[int, Analysis, FaceAnalysis] | None:
        return next((entry for entry in self.faces() if entry[0] == number), None)

    @property
    def n_pictures(self) -> int:
        """Pictures analyzed so far, with or without faces."""
        return sum(len(exchange.names) for exchange in self.exchanges if not (exchange.running or exchange.error))

    @property
    def busy(self) -> bool:
        return bool(self.exchanges) and self.exchanges[-1].running

    def begin(self, text: str, uploads: tuple[Path, ...], names: tuple[str, ...], settings: Settings) -> Exchange:
        """Starts a new exchange, and stops the current answer."""
        self.stop.set()
        self.stop = Event()
        exchange = Exchange(text, names, settings, uploads=uploads, memory_before=self.memory.copy())
        self.exchanges.append(exchange)
        return exchange

    def rewind(self, index: int) -> Exchange:
        """Removes this exchange and all later ones. Returns it, so that it can be asked again."""
        self.stop.set()
        removed = self.exchanges[index]
        self.exchanges = self.exchanges[:index]
        self.memory = removed.memory_before.copy()
        self.chosen = None
        return removed

    @property
    def bytes(self) -> int:
        """Approximate memory that the pictures take."""
        images = [image for _, analysis, face in self.faces() for image in (analysis.picture.image, face.face.crop)]
        return sum(3 * width * height for width, height in {id(image): image.size for image in images}.values())


def with_small_picture(analysis: Analysis) -> Analysis:
    """The analysis with its picture reduced to the size we store."""
    return replace(analysis, picture=analysis.picture.smaller(STORED_SIDE))
