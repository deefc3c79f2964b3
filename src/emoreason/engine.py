"""Serves one model to many callers: a single thread owns the model and batches the requests that are waiting.

    engine = Engine(lambda: load("mini"), "mini")
    caller = engine.caller(stop)              # one request; the methods of a Reasoner, safe in many threads
    for piece in caller.explain(analyses): ...

The callers' own threads open pictures and find faces. The engine thread measures small requests first, because that is
quick. It writes texts in groups of up to TOGETHER faces and starts a second group while the first is still being
written, so that nobody waits for someone else's text to end. A group takes about as long for one face as for eight, so
it waits a moment for requests that are on their way. Requests with many faces (folders) queue behind small ones and
never occupy both groups.
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
from emoreason.explain.explanation import Answer, Piece, Question, Style, check_decide, consume
from emoreason.media.images import Limits, open_picture

if TYPE_CHECKING:
    from emoreason.analysis import Analysis
    from emoreason.core.types import Face
    from emoreason.evidence.reader import Reader
    from emoreason.faces.detect import Detector
    from emoreason.reasoner import Reasoner

TOGETHER = 8  # texts written side by side: on a CPU, more are no faster and delay the first ones
GROUPS = 2  # groups of texts written at once
TICK = 0.1  # seconds between a waiting request's checks whether it was stopped
GATHER = 0.15  # seconds a group waits for requests whose pictures are still being decoded
FOLLOWS = 0.01  # seconds after measuring a face within which a request usually asks for its text
PATIENCE = 0.25  # seconds after which a second group starts, however small
TURN = 0.005  # seconds a group runs per turn: less than one step of the model, enough to hand out the words of a step
MANY_FACES = 8  # a request with this many faces lets smaller ones go first
QUIET = 1.0  # idle seconds after which freed memory goes back to the system
LATER = 0.25  # seconds a request moves back in the queue for each of its faces
_END = object()

log = logging.getLogger("emoreason")


class Busy(EmoreasonError):
    """The model takes no request now: the queue is full, or the model is loading or shutting down."""


class Stopped(EmoreasonError):
    """The caller stopped the request."""


@dataclass(eq=False)
class Task:
    """One request to the model: measure pictures, explain analyses or answer questions."""

    kind: str  # measure, explain or answer
    items: Sequence[Any]
    key: tuple[Any, ...]  # jobs of the same kind and key can go through the model together
    size: int  # number of faces or questions
    stop: threading.Event  # set when the caller stops the request
    out: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)  # pieces, then _END or an exception
    value: Any = None
    abandoned: bool = False  # nobody reads `out` any more
    started: bool = False  # at least one piece went out
    submitted: float = field(default_factory=time.perf_counter)

    @property
    def due(self) -> float:
        """The queue is sorted by this."""
        return self.submitted + LATER * self.size

    @property
    def over(self) -> bool:
        return self.abandoned or self.stop.is_set()

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        self.value = value
        self.out.put(error or _END)


@dataclass(eq=False)
class Group:
    """Jobs whose texts are written together."""

    jobs: list[Task]
    pieces: Generator[Piece, None, list[Any]]
    started: float

    def step(self) -> bool:
        """Pass the next piece to the job it belongs to; False when everything is written or all jobs are over."""
        if all(job.over for job in self.jobs):
            self.pieces.close()  # stops the model
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
                if piece.text:  # an empty piece only says that the model is at work
                    job.started = True
                    job.out.put(Piece(row, piece.text))
                return True
            row -= job.size
        raise AssertionError(f"piece for row {piece.row} of {sum(job.size for job in self.jobs)}")


class Engine:
    """Loads a model in a thread of its own and runs it there."""

    def __init__(
        self,
        load: "Callable[[], Reasoner]",
        name: str,
        *,
        together: int = TOGETHER,
        max_waiting: int = 200,
        on_batch: Callable[[str, int, float], None] = lambda kind, rows, seconds: None,
    ):
        self.name, self.together, self.max_waiting, self.on_batch = name, together, max_waiting, on_batch
        self.state, self.problem = "loading", ""
        self._load = load
        self._reasoner: Reasoner | None = None
        self._jobs: list[Task] = []  # waiting, sorted by `due`
        self._groups: deque[Group] = deque()  # being written; the first one gets the next turn
        self._opening = 0  # requests whose pictures are being decoded
        self._expected_texts = 0  # requests that were just measured and may ask for their texts in a moment
        self._measured_at = 0.0
        self._owed = 0.0  # seconds of writing that are due before many faces are measured again
        self._changed = threading.Condition()
        self._loaded = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"engine-{name}", daemon=True)
        self._thread.start()

    # ---- called from the threads of the callers ----------------------------------------------------------------------

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
            raise Busy(f"{self.name} is still loading; try again in a few seconds")
        if self.state == "failed":
            raise EmoreasonError(f"{self.name} could not be loaded: {self.problem}")

    def caller(self, stop: threading.Event | None = None) -> "Caller":
        return Caller(self, stop or threading.Event())

    def submit(self, job: Task) -> None:
        with self._changed:
            if self.state == "closed":
                raise Busy(f"{self.name} is shutting down")
            if len(self._jobs) >= self.max_waiting:
                raise Busy(f"{len(self._jobs)} requests are already waiting; try again in a moment")
            insort(self._jobs, job, key=lambda other: other.due)
            if job.kind != "measure":
                self._expected_texts = max(0, self._expected_texts - 1)
            self._changed.notify()

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Wrap this around opening pictures and finding faces: new groups wait a moment for such requests."""
        with self._changed:
            self._opening += 1
        try:
            yield
        finally:
            with self._changed:
                self._opening -= 1
                self._changed.notify()

    def ahead(self, job: Task) -> int | None:
        """The number of jobs before this one in the queue; None once the engine has taken it."""
        with self._changed:
            return next((at for at, other in enumerate(self._jobs) if other is job), None)

    def close(self, timeout: float = 30) -> None:
        """Refuse new requests, finish those that were accepted, and end the thread."""
        with self._changed:
            if self.state != "failed":
                self.state = "closed"
            self._changed.notify()
        if self.state != "failed":  # a failed engine has nothing to finish
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
        finally:  # callers must not wait for a thread that has ended
            for job in [*self._jobs, *(job for group in self._groups for job in group.jobs)]:
                job.end(error=Busy(f"{self.name} is no longer running"))

    def _wait_for_work(self) -> bool:
        """Wait until there is work; False when the engine was closed."""
        idle_timeout: float | None = QUIET
        with self._changed:
            while not self._jobs and not self._groups:
                if self.state == "closed":
                    return False
                if not self._changed.wait(idle_timeout):
                    give_back_memory()
                    idle_timeout = None  # once per idle period
            return True

    def _work(self) -> None:
        """Measure the waiting faces, start a group if one may start, and write on with one group."""
        self._measure(self._take(lambda job: job.kind == "measure" and job.size < MANY_FACES))
        if not self._groups or self._owed <= 0:
            started = time.perf_counter()
            self._measure(self._take(lambda job: job.kind == "measure", MANY_FACES))
            self._owed = time.perf_counter() - started
        if len(self._groups) < GROUPS:
            large_running = any(job.size >= MANY_FACES for group in self._groups for job in group.jobs)

            def may_start(job: Task) -> bool:
                return job.kind != "measure" and not (large_running and job.size >= MANY_FACES)

            if (delay := self._start_delay(may_start)) > 0:
                if not self._groups:
                    with self._changed:
                        self._changed.wait(delay)
            elif jobs := self._take(may_start, self.together):
                self._begin(jobs)
        if self._groups:
            started = time.perf_counter()
            self._turn()
            self._owed -= time.perf_counter() - started

    def _start_delay(self, may_start: Callable[[Task], bool]) -> float:
        """Seconds that the next group should still wait because more requests could join it."""
        now = time.perf_counter()
        with self._changed:
            texts = [job for job in self._jobs if may_start(job)]
            waiting, running = sum(job.size for job in texts), sum(job.size for g in self._groups for job in g.jobs)
            if not texts or waiting >= self.together:
                return 0.0
            oldest = min(job.submitted for job in texts)
            if running > 2 * waiting:
                return oldest + PATIENCE - now
            if self._opening:
                return oldest + GATHER - now
            return self._measured_at + FOLLOWS - now if self._expected_texts else 0.0

    def _take(self, fits: Callable[[Task], bool], max_size: int | None = None) -> list[Task]:
        """Remove from the queue the first job that fits and all later ones that can share its batch.

        Jobs that are over are dropped on the way."""
        taken: list[Task] = []
        with self._changed:
            remaining: list[Task] = []
            for job in self._jobs:
                if job.over:
                    continue
                if fits(job) and self._can_join(job, taken, max_size):
                    taken.append(job)
                else:
                    remaining.append(job)
            self._jobs = remaining
        return taken

    @staticmethod
    def _can_join(job: Task, taken: list[Task], max_size: int | None) -> bool:
        if not taken:
            return True
        return job.key == taken[0].key and (
            max_size is None or sum(other.size for other in taken) + job.size <= max_size
        )

    def _measure(self, jobs: list[Task]) -> None:
        if not jobs:
            return
        started = time.perf_counter()
        try:
            assert self._reasoner is not None, self.problem
            analyses = iter(self._reasoner.analyze_faces([item for job in jobs for item in job.items], jobs[0].key[1]))
            values = [[next(analyses) for _ in job.items] for job in jobs]
        except Exception as error:
            self._failed(jobs, error, self._measure)
            return
        self._measured_at = time.perf_counter()
        with self._changed:
            self._expected_texts = len(jobs)
        for job, value in zip(jobs, values, strict=True):
            job.end(value)
        self._report_batch("measure", jobs, self._measured_at - started)

    def _begin(self, jobs: list[Task]) -> None:
        assert self._reasoner is not None, self.problem
        items = [item for job in jobs for item in job.items]
        match jobs[0].key:
            case ("explain", _, decide, style):
                pieces: Generator[Piece, None, list[Any]] = self._reasoner.explain(items, decide, style)
            case (_, style):
                pieces = self._reasoner.answer(items, style)
        self._groups.append(Group(jobs, pieces, time.perf_counter()))

    @staticmethod
    def _failed(jobs: list[Task], error: Exception, retry: Callable[[list[Task]], None]) -> None:
        """One bad request must not fail the others: each job that has sent no piece yet is tried again, alone."""
        for job in jobs:
            if len(jobs) > 1 and not job.started:
                retry([job])
            else:
                job.end(error=error)

    def _turn(self) -> None:
        """Advance the first group: pass on the pieces of one step of the model, or end the group."""
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
            self._report_batch(group.jobs[0].kind, group.jobs, time.perf_counter() - group.started)

    def _report_batch(self, kind: str, jobs: list[Task], seconds: float) -> None:
        try:
            self.on_batch(kind, sum(job.size for job in jobs), seconds)
        except Exception:  # a failing listener must not end the thread that all callers depend on
            log.exception("%s: the on_batch callback failed", self.name)


class Caller:
    """An engine as one request sees it: the methods of a Reasoner. Setting `stop` ends any wait."""

    def __init__(self, engine: Engine, stop: threading.Event):
        self._engine, self._stop = engine, stop

    def _reasoner(self) -> "Reasoner":
        """The model, once it is loaded. Setting `stop` ends the wait."""
        while not self._stop.is_set():
            with suppress(Busy):
                self._engine.wait_ready(TICK)
                return self._engine.reasoner
        raise Stopped("stopped")

    def _loaded(self) -> "Reasoner":
        """The model, for attributes that never change after loading: any thread may read them, even after a stop."""
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

        checked = (
            check_labels(labels) if labels is not None else None
        )  # here, so that bad labels fail only this request
        size = sum(len(faces) for _, faces in pictures)
        return consume(self._pieces(Task("measure", list(pictures), ("measure", checked), size, self._stop)))

    def analyze(
        self,
        source: Any,
        labels: Sequence[str] | None = None,
        detect: bool = True,
        limits: Limits = Limits(),
        explain: bool = True,
        decide: str = "evidence",
        style: Style = Style(),
    ) -> "Analysis":
        with self._engine.opening():
            picture = source if isinstance(source, Picture) else open_picture(source, limits)
            faces = self.faces(picture, detect)
        analyses = self.analyze_faces([(picture, faces)], labels)
        if not explain:
            return analyses[0]
        return consume(self.explain(analyses, decide, style))[0]

    def explain(
        self, analyses: "Sequence[Analysis]", decide: str = "evidence", style: Style = Style()
    ) -> "Generator[Piece | Queued, None, list[Analysis]]":
        check_decide(decide)
        faces = [face for analysis in analyses for face in analysis.faces]
        if not faces or not self.has_words:
            return list(analyses)
        labels = tuple(faces[0].probabilities)
        job = Task("explain", list(analyses), ("explain", labels, decide, style), len(faces), self._stop)
        return (yield from self._pieces(job))

    def answer(
        self, questions: Sequence[Question], style: Style = Style()
    ) -> Generator[Piece | Queued, None, list[Answer]]:
        job = Task("answer", list(questions), ("answer", style), len(questions), self._stop)
        return (yield from self._pieces(job))

    def _pieces(self, job: Task) -> Generator[Piece | Queued, None, Any]:
        """The pieces of a job as they are written. Closing this generator lets the model stop."""
        self._reasoner()
        self._engine.submit(job)
        reported = None
        try:
            while not self._stop.is_set():
                try:
                    piece = job.out.get(timeout=TICK)
                except queue.Empty:
                    ahead = self._engine.ahead(job)
                    if ahead is not None and ahead != reported:
                        reported = ahead
                        yield Queued(ahead)
                    continue
                if piece is _END:
                    return job.value
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
            raise Stopped("stopped")
        finally:
            job.abandoned = True


class Engines:
    """The models of a server by name; each is loaded on first use."""

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
            raise UsageError(f"there is no model {name!r}; available: {', '.join(self.names)}")
        with self._lock:
            if name not in self._engines:
                self._engines[name] = Engine(self._loaders[name], name, **self._options)
            return self._engines[name]

    def loaded(self) -> list[Engine]:
        return list(self._engines.values())

    def close(self, timeout: float = 30) -> None:
        for engine in self.loaded():
            engine.close(timeout)
