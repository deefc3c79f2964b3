"""The server's side of one browser tab: what was asked, what was measured, what was said."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

from emoreason.analysis import Analysis, FaceAnalysis
from emoreason.chat import Memory
from emoreason.explain.explanation import Style

KEPT = 1280  # pixels of the longer side: pictures are read whole and kept smaller, to be shown


@dataclass(frozen=True)
class Settings:
    model: str
    labels: tuple[str, ...] | None = None  # None: the model's own
    detect: bool = True
    decide: str = "evidence"
    manner: Style = Style()


@dataclass
class Exchange:
    """One message of the user's and all that came of it."""

    text: str  # what the user wrote; "" when only pictures came
    names: tuple[str, ...]  # of the pictures that came with it
    settings: Settings
    analyses: tuple[Analysis, ...] = ()  # of these pictures; faces carry their explanation once it is written
    first: int = 0  # number (from 1, through the whole conversation) of the first of their faces
    answer: str = ""  # the answer to a question, or what is said where there is no face
    about: tuple[int, ...] = ()  # numbers of the faces that the question was about
    error: str = ""
    stopped: bool = False
    uploads: tuple[Path, ...] = ()  # the pictures as they came, to be read again in another way
    thumbnails: tuple[str, ...] = ()  # data URIs
    before: Memory = field(default_factory=Memory)  # what was known before, to go back to
    writing: dict[int, str] = field(default_factory=dict)  # texts of faces that are still written
    ahead: int | None = None  # requests of others that come first, while it waits
    loading: bool = False  # the model is not there yet
    running: bool = True

    def faces(self) -> list[tuple[int, Analysis, FaceAnalysis]]:
        """(number in the conversation, its picture, the face)."""
        found = [(analysis, face) for analysis in self.analyses for face in analysis.faces]
        return [(self.first + at, analysis, face) for at, (analysis, face) in enumerate(found)]


@dataclass
class PageConversation:
    exchanges: list[Exchange] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    chosen: int | None = None  # number of the face that is shown at the side
    stop: Event = field(default_factory=Event)  # of the answer that is being written

    def faces(self) -> list[tuple[int, Analysis, FaceAnalysis]]:
        return [shown for exchange in self.exchanges for shown in exchange.faces()]

    def face(self, number: int) -> tuple[int, Analysis, FaceAnalysis] | None:
        return next((shown for shown in self.faces() if shown[0] == number), None)

    @property
    def n_pictures(self) -> int:
        """Pictures that were looked at, with faces or without."""
        return sum(len(exchange.names) for exchange in self.exchanges if not (exchange.running or exchange.error))

    @property
    def busy(self) -> bool:
        return bool(self.exchanges) and self.exchanges[-1].running

    def begin(self, text: str, uploads: tuple[Path, ...], names: tuple[str, ...], settings: Settings) -> Exchange:
        """A new message; an answer that is still written is stopped for it."""
        self.stop.set()
        self.stop = Event()
        exchange = Exchange(text, names, settings, uploads=uploads, before=self.memory.copy())
        self.exchanges.append(exchange)
        return exchange

    def back_to(self, at: int) -> Exchange:
        """Take this exchange and all after it away; it is given back, to be asked again or otherwise."""
        self.stop.set()
        taken = self.exchanges[at]
        self.exchanges = self.exchanges[:at]
        self.memory = taken.before.copy()
        self.chosen = None
        return taken

    @property
    def bytes(self) -> int:
        """About how much memory the pictures take."""
        images = [image for _, analysis, face in self.faces() for image in (analysis.picture.image, face.face.crop)]
        return sum(3 * width * height for width, height in {id(image): image.size for image in images}.values())


def kept(analysis: Analysis) -> Analysis:
    """An analysis whose picture is small enough to keep."""
    return replace(analysis, picture=analysis.picture.smaller(KEPT))
