"""One model for many callers: a thread owns it, and what waits together goes through it together.

    engine = Engine(lambda: load("mini"), "mini")
    caller = engine.caller(stop)              # one request; the methods of a Reasoner, safe in many threads
    for piece in caller.explain(analyses): ...

Pictures are opened and faces found in the callers' threads. Measuring a few faces is quick and goes first; texts are
written by up to TOGETHER faces at a time, and a second group begins while the first is still written, so that nobody
waits for the end of another's text. A group costs about the same whether one face is in it or eight: it waits a moment
for those who are on their way. Requests of many faces (folders) come after those of a few, and never take both places.
"""

import logging
import queue
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from emoreason.chat import Queued
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.malloc import give_back_memory
from emoreason.core.types import Picture
from emoreason.explain.explanation import Piece, Question, Style, check_decide
from emoreason.media.images import Limits, open_picture

if TYPE_CHECKING:
    from emoreason.analysis import Analysis
    from emoreason.core.types import Face
    from emoreason.evidence.reader import Reader
    from emoreason.faces.detect import Detector
    from emoreason.reasoner import Reasoner

TOGETHER = 8  # texts written side by side: more gain nothing on a processor and keep the first ones waiting
GROUPS = 2  # of them at once
TICK = 0.1  # seconds until a waiting request looks whether it was stopped
GATHER = 0.15  # seconds that a group waits for others whose pictures are being read
FOLLOWS = 0.01  # seconds in which a text is asked for after its face was measured, if it is
PATIENCE = 0.25  # seconds after which a second group begins, however small
TURN = 0.005  # seconds that a group goes on at a time: less than one step of the model, more than handing out its words
MANY_FACES = 8  # faces of a request that lets smaller ones go first
QUIET = 1.0  # seconds without work after which freed memory goes back to the system
LATER = 0.25  # seconds that a request stands behind for each of its faces
_END = object()

log = logging.getLogger("emoreason")


class Busy(EmoreasonError):
    """More requests wait than are let in."""


class Stopped(EmoreasonError):
    """The caller stopped it."""


@dataclass(eq=False)
class Task:
    """One request for the model: measuring pictures, explaining analyses or answering questions."""

    kind: str  # measure, explain or answer
    items: Sequence[Any]
    key: tuple[Any, ...]  # jobs of one kind and key can go through the model together
    size: int  # faces or questions
    stop: threading.Event  # of the request
    out: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)  # pieces, then _END or an exception
    value: Any = None
    left: bool = False  # nobody reads it any more
    given: bool = False  # a piece of it was told
    asked: float = field(default_factory=time.perf_counter)

    @property
    def due(self) -> float:
        """The order in which jobs are taken."""
        return self.asked + LATER * self.size

    @property
    def over(self) -> bool:
        return self.left or self.stop.is_set()

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.out.put(error or _END)


@dataclass(eq=False)
class Group:
    """Jobs whose texts are being written together."""

    jobs: list[Task]
    pieces: Generator[Piece, None, list[Any]]
    begun: float

    def step(self) -> bool:
        """One more piece to whom it belongs; False when all is written."""
        if all(job.over for job in self.jobs):
            self.pieces.close()  # the model stops
            return False
        try:
            piece = next(self.pieces)
        except StopIteration as done:
            values = iter(done.value)
            for job in self.jobs:
                job.end([next(values) for _ in job.items])
            return False
        row = piece.row
        for job in self.jobs:
            if row < job.size:
                job.given = True
                job.out.put(Piece(row, piece.text))
                return True
            row -= job.size
        raise AssertionError(f"piece for row {piece.row} of {sum(job.size for job in self.jobs)}")


class Engine:
    """Loads a model in a thread of its own and serves it from there."""

    def __init__(
        self,
        load: "Callable[[], Reasoner]",
        name: str,
        *,
        together: int = TOGETHER,
        most_waiting: int = 200,
        on_batch: Callable[[str, int, float], None] = lambda kind, rows, seconds: None,
    ):
        self.name, self.together, self.most_waiting, self.on_batch = name, together, most_waiting, on_batch
        self.state, self.problem = "loading", ""
        self._load = load
        self._reasoner: Reasoner | None = None
        self._jobs: list[Task] = []  # waiting, in the order of `due`
        self._groups: deque[Group] = deque()  # being written, the next one to get a turn first
        self._opening = 0  # requests whose pictures are being read
        self._follow = 0  # requests that were just measured: their texts may be asked for in a moment
        self._measured = 0.0  # when that was
        self._owed = 0.0  # seconds that texts have to be written before many faces are measured again
        self._news = threading.Condition()
        self._loaded = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"engine-{name}", daemon=True)
        self._thread.start()

    # ---- for those who ask -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> int:
        return sum(len(group.jobs) for group in list(self._groups))  # read from other threads

    @property
    def reasoner(self) -> "Reasoner":
        self.wait_ready()
        assert self._reasoner is not None
        return self._reasoner

    @property
    def is_loaded(self) -> bool:
        return self._loaded.is_set()

    def wait_ready(self, timeout: float | None = None) -> None:
        if not self._loaded.wait(timeout):
            raise Busy(f"{self.name} is still being loaded; ask again in a few seconds")
        if self.state == "failed":
            raise EmoreasonError(f"{self.name} could not be loaded: {self.problem}")

    def caller(self, stop: threading.Event | None = None) -> "Caller":
        return Caller(self, stop or threading.Event())

    def submit(self, job: Task) -> None:
        with self._news:
            if self.state == "closed":
                raise Busy(f"{self.name} is shutting down")
            if len(self._jobs) >= self.most_waiting:
                raise Busy(f"{len(self._jobs)} requests wait already; try again in a moment")
            insort(self._jobs, job, key=lambda other: other.due)
            if job.kind != "measure":
                self._follow = max(0, self._follow - 1)
            self._news.notify()

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Around the reading of pictures whose faces will be asked about: groups wait a moment for them."""
        with self._news:
            self._opening += 1
        try:
            yield
        finally:
            with self._news:
                self._opening -= 1
                self._news.notify()

    def ahead(self, job: Task) -> int | None:
        """How many are before this one; None once it is taken."""
        with self._news:
            return next((at for at, other in enumerate(self._jobs) if other is job), None)

    def close(self, timeout: float = 30) -> None:
        """Take no more, finish what is there, end the thread."""
        with self._news:
            if self.state != "failed":
                self.state = "closed"
            self._news.notify()
        if self.state != "failed":  # then there is nothing to finish
            self._thread.join(timeout)

    # ---- the thread that owns the model ------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._reasoner = self._load()
            if self._reasoner.has_words:
                _ = self._reasoner.explainer
        except Exception as error:
            log.error("%s could not be loaded", self.name, exc_info=not isinstance(error, EmoreasonError))
            self.problem, self.state = str(error) or type(error).__name__, "failed"
        else:
            self.state = "ready" if self.state == "loading" else self.state
        self._loaded.set()
        try:
            while self.state != "failed" and self._wait_for_work():
                self._work()
        finally:  # nobody may wait for a thread that is gone
            for job in [*self._jobs, *(job for group in self._groups for job in group.jobs)]:
                job.end(error=Busy(f"{self.name} has ended"))

    def _wait_for_work(self) -> bool:
        quiet: float | None = QUIET
        with self._news:
            while not self._jobs and not self._groups:
                if self.state == "closed":
                    return False
                if not self._news.wait(quiet):
                    give_back_memory()
                    quiet = None  # once, until there was work again
            return True

    def _work(self) -> None:
        """Measure what is there, perhaps begin a group, and write on with one."""
        self._measure(self._take(lambda job: job.kind == "measure" and job.size < MANY_FACES))
        if not self._groups or self._owed <= 0:
            begun = time.perf_counter()
            self._measure(self._take(lambda job: job.kind == "measure", MANY_FACES))
            self._owed = time.perf_counter() - begun
        if len(self._groups) < GROUPS:
            many = any(job.size >= MANY_FACES for group in self._groups for job in group.jobs)
            if (wait := self._early(many)) > 0:
                if not self._groups:
                    with self._news:
                        self._news.wait(wait)
            elif jobs := self._take(lambda job: job.kind != "measure" and not (many and job.size >= MANY_FACES),
                                    self.together):  # fmt: skip
                self._begin(jobs)
        if self._groups:
            begun = time.perf_counter()
            self._turn()
            self._owed -= time.perf_counter() - begun

    def _early(self, many: bool) -> float:
        """Seconds for which it is worth to wait with a group, because more could go with it."""
        now = time.perf_counter()
        with self._news:
            texts = [job for job in self._jobs if job.kind != "measure" and not (many and job.size >= MANY_FACES)]
            waiting, running = sum(job.size for job in texts), sum(job.size for g in self._groups for job in g.jobs)
            if not texts or waiting >= self.together:
                return 0.0
            oldest = min(job.asked for job in texts)
            if running > 2 * waiting:
                return oldest + PATIENCE - now
            if self._opening:
                return oldest + GATHER - now
            return self._measured + FOLLOWS - now if self._follow else 0.0

    def _take(self, fits: Callable[[Task], bool], max_size: int | None = None) -> list[Task]:
        """The first waiting job that fits, and those behind it that can go with it. Stopped ones are let go."""
        taken: list[Task] = []
        with self._news:
            kept: list[Task] = []
            for job in self._jobs:
                if job.over:
                    continue
                if fits(job) and self._joins(job, taken, max_size):
                    taken.append(job)
                else:
                    kept.append(job)
            self._jobs = kept
        return taken

    @staticmethod
    def _joins(job: Task, taken: list[Task], max_size: int | None) -> bool:
        if not taken:
            return True
        return job.key == taken[0].key and (
            max_size is None or sum(other.size for other in taken) + job.size <= max_size
        )

    def _measure(self, jobs: list[Task]) -> None:
        if not jobs:
            return
        begun = time.perf_counter()
        try:
            assert self._reasoner is not None, self.problem
            analyses = iter(self._reasoner.analyze_faces([item for job in jobs for item in job.items], jobs[0].key[1]))
            values = [[next(analyses) for _ in job.items] for job in jobs]
        except Exception as error:
            self._failed(jobs, error, self._measure)
            return
        self._measured = time.perf_counter()
        with self._news:
            self._follow = len(jobs)
        for job, value in zip(jobs, values, strict=True):
            job.end(value)
        self._told("measure", jobs, self._measured - begun)

    def _begin(self, jobs: list[Task]) -> None:
        assert self._reasoner is not None, self.problem
        items = [item for job in jobs for item in job.items]
        match jobs[0].key:
            case ("explain", _, decide, manner):
                pieces: Generator[Piece, None, list[Any]] = self._reasoner.explain(items, decide, manner)
            case (_, manner):
                pieces = self._reasoner.answer(items, manner)
        self._groups.append(Group(jobs, pieces, time.perf_counter()))

    @staticmethod
    def _failed(jobs: list[Task], error: Exception, again: Callable[[list[Task]], None]) -> None:
        """What one request broke must not break the others: those that were told nothing yet go once more, alone."""
        for job in jobs:
            if len(jobs) > 1 and not job.given:
                again([job])
            else:
                job.end(error=error)

    def _turn(self) -> None:
        """Some pieces of the group whose turn it is: what one step of the model gives, or the end."""
        group, until = self._groups[0], time.perf_counter() + TURN
        try:
            while (going := group.step()) and time.perf_counter() < until:
                pass
        except Exception as error:
            self._groups.remove(group)
            self._failed(group.jobs, error, self._begin)
            return
        if going:
            self._groups.rotate(-1)
        else:
            self._groups.remove(group)
            self._told(group.jobs[0].kind, group.jobs, time.perf_counter() - group.begun)

    def _told(self, kind: str, jobs: list[Task], seconds: float) -> None:
        try:
            self.on_batch(kind, sum(job.size for job in jobs), seconds)
        except Exception:  # whoever listens must not end the thread that everybody waits for
            log.exception("%s: a batch could not be counted", self.name)


class Caller:
    """What one request sees of an engine: the methods of a Reasoner. Setting `stop` ends whatever it waits for."""

    def __init__(self, engine: Engine, stop: threading.Event):
        self._engine, self._stop = engine, stop

    def _reasoner(self) -> "Reasoner":
        """Once it is loaded; whoever stops does not wait for that."""
        while not self._stop.is_set():
            with suppress(Busy):
                self._engine.wait_ready(TICK)
                return self._engine.reasoner
        raise Stopped("stopped")

    def _loaded(self) -> "Reasoner":
        """The model, for what is fixed once it is loaded: any thread may read that, after a stop too."""
        return self._engine.reasoner if self._engine.is_loaded else self._reasoner()

    @property
    def name(self) -> str:
        return self._loaded().name

    @property
    def revision(self) -> str:
        return self._loaded().revision

    @property
    def prompt_id(self) -> str:
        return self._loaded().prompt_id

    @property
    def default_labels(self) -> tuple[str, ...]:
        return self._loaded().default_labels

    @property
    def reader(self) -> "Reader":
        return self._loaded().reader

    @property
    def detector(self) -> "Detector":
        return self._loaded().detector

    @property
    def explainer_name(self) -> str:
        return self._loaded().explainer_name

    @property
    def has_words(self) -> bool:
        return self._loaded().has_words

    @property
    def visual_tokens(self) -> int:
        """Tokens that stand for the picture of one face."""
        explainer = self._loaded().explainer
        return explainer.visual_tokens if explainer is not None else 0

    def count_tokens(self, text: str) -> int:
        explainer = self._loaded().explainer
        return explainer.count_tokens(text) if explainer is not None else 0

    def faces(self, picture: Picture, detect: bool = True) -> "list[Face]":
        reasoner = self._reasoner()
        with self._engine.opening():
            return reasoner.faces(picture, detect)

    def analyze_faces(
        self,
        pictures: "Sequence[tuple[Picture, list[Face]]]",
        labels: Sequence[str] | None = None,
        batch_size: int = 128,
    ) -> "list[Analysis]":
        from emoreason.evidence.zeroshot import check_labels

        asked = check_labels(labels) if labels is not None else None  # a wrong label is its own request's mistake
        size = sum(len(faces) for _, faces in pictures)
        return self._value(Task("measure", list(pictures), ("measure", asked), size, self._stop))

    def analyze(
        self,
        source: Any,
        labels: Sequence[str] | None = None,
        detect: bool = True,
        limits: Limits = Limits(),
        explain: bool = True,
        decide: str = "evidence",
        manner: Style = Style(),
    ) -> "Analysis":
        with self._engine.opening():
            picture = source if isinstance(source, Picture) else open_picture(source, limits)
            faces = self.faces(picture, detect)
        analyses = self.analyze_faces([(picture, faces)], labels)
        if not explain:
            return analyses[0]
        from emoreason.explain.explanation import consume

        return consume(self.explain(analyses, decide, manner))[0]

    def explain(
        self, analyses: "Sequence[Analysis]", decide: str = "evidence", manner: Style = Style()
    ) -> "Generator[Piece | Queued, None, list[Analysis]]":
        check_decide(decide)
        faces = [face for analysis in analyses for face in analysis.faces]
        if not faces or not self.has_words:
            return list(analyses)
        labels = tuple(faces[0].probabilities)
        job = Task("explain", list(analyses), ("explain", labels, decide, manner), len(faces), self._stop)
        return (yield from self._pieces(job))

    def answer(
        self, questions: Sequence[Question], manner: Style = Style()
    ) -> Generator[Piece | Queued, None, list[str]]:
        job = Task("answer", list(questions), ("answer", manner), len(questions), self._stop)
        return (yield from self._pieces(job))

    def _value(self, job: Task) -> Any:
        for _ in self._pieces(job):
            pass
        return job.value

    def _pieces(self, job: Task) -> Generator[Piece | Queued, None, Any]:
        """The model goes on for a job as long as somebody reads here."""
        self._reasoner()
        self._engine.submit(job)
        told = None
        try:
            while not self._stop.is_set():
                try:
                    piece = job.out.get(timeout=TICK)
                except queue.Empty:
                    ahead = self._engine.ahead(job)
                    if ahead is not None and ahead != told:
                        told = ahead
                        yield Queued(ahead)
                    continue
                if piece is _END:
                    return job.value
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
            raise Stopped("stopped")
        finally:
            job.left = True


class Engines:
    """The models that were named at the start, each loaded when it is first wanted."""

    def __init__(self, loaders: "Mapping[str, Callable[[], Reasoner]]", **options: Any):
        self._loaders, self._options = dict(loaders), options
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._loaders)

    @property
    def default(self) -> str:
        return self.names[0]

    def __getitem__(self, name: str) -> Engine:
        if name not in self._loaders:
            raise UsageError(f"there is no model {name!r} here; there is {', '.join(self.names)}")
        with self._lock:
            if name not in self._engines:
                self._engines[name] = Engine(self._loaders[name], name, **self._options)
            return self._engines[name]

    def loaded(self) -> list[Engine]:
        return list(self._engines.values())

    def close(self, timeout: float = 30) -> None:
        for engine in self.loaded():
            engine.close(timeout)
