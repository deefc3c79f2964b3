"""One message answered: the events of the model become the state of the conversation, step by step."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from emoreason.analysis import Analysis
from emoreason.apps.ui.conversation import Exchange, PageConversation, kept
from emoreason.apps.ui.views import data_uri
from emoreason.apps.ui.words import words
from emoreason.chat import AnswerStarted, ChatOptions, Explained, FacesMeasured, Memory, Queued, TextStarted, converse
from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Picture
from emoreason.engine import Engine, Stopped
from emoreason.media.images import Limits, open_picture

PICTURE_LIMITS = Limits(max_bytes=32 * 2**20, max_pixels=50_000_000)
THUMBNAIL = 320  # pixels of a picture in the conversation
SHOWN = 0.06  # seconds between two looks at a text that is being written: the eye needs no more
SELDOM = 1.0  # at most; the page costs about as much as the model once many read along, so each looks less often

log = logging.getLogger("emoreason.ui")


def answer(conversation: PageConversation, engine: Engine, exchange: Exchange) -> Iterator[None]:
    """Comes back whenever there is something new to show. Every mistake ends in `exchange.error`."""
    stop, memory = conversation.stop, conversation.memory
    try:
        pictures = tuple(_opened(exchange))
        exchange.loading = engine.state == "loading"
        yield
        caller = engine.caller(stop)
        _ = caller.name  # waits for the model, or until it is stopped
        exchange.loading = False
        settings = exchange.settings
        asking = ChatOptions(settings.labels, settings.detect, settings.decide, settings.manner)
        content = [{"type": "image", "image": picture} for picture in pictures]
        content += [{"type": "text", "text": exchange.text}]
        shown = 0.0
        for event in converse(caller, memory, {"role": "user", "content": content}, asking):
            match event:
                case Queued(ahead):
                    exchange.ahead = ahead
                case FacesMeasured(analyses, first):
                    exchange.analyses, exchange.first = tuple(map(kept, analyses)), first
                    conversation.chosen = None
                case TextStarted(number):
                    _take_over(exchange, memory)
                    now = number
                    if number:
                        exchange.writing[number] = ""
                case AnswerStarted(about):
                    exchange.about = about
                    conversation.chosen = about[0]
                    now = None
                case Explained(analyses):
                    exchange.analyses, exchange.writing = tuple(map(kept, analyses)), {}
                case str():
                    exchange.ahead = None
                    if now:
                        exchange.writing[now] += event
                    else:
                        exchange.answer += event
                    if time.monotonic() - shown < min(SHOWN * max(1, engine.running), SELDOM):
                        continue
                    shown = time.monotonic()
            yield
    except Stopped:
        exchange.stopped = True
    except EmoreasonError as error:
        exchange.error = str(error)
    except GeneratorExit:
        exchange.stopped = True
        raise
    except Exception:
        log.exception("an answer failed")
        exchange.error = words()["errors"]["model"]
    finally:
        stop.set()  # nobody is to go on with it
        exchange.running, exchange.ahead = False, None
        _take_over(exchange, memory)
    yield


def _opened(exchange: Exchange) -> Iterator[Picture]:
    """The pictures, under the names that they were sent with."""
    thumbnails = []
    for path, name in zip(exchange.uploads, exchange.names, strict=True):
        try:
            picture = open_picture(path, PICTURE_LIMITS)
        except EmoreasonError as error:
            raise EmoreasonError(str(error).replace(str(path), name)) from None
        thumbnails.append(data_uri(picture.image, THUMBNAIL))
        exchange.thumbnails = tuple(thumbnails)
        yield replace(picture, source=name)


def _take_over(exchange: Exchange, memory: Memory) -> None:
    """Faces that are explained already, while others still wait for it."""
    faces = iter(memory.faces[exchange.first - 1 :] if exchange.first else ())

    def explained(analysis: Analysis) -> Analysis:
        return replace(analysis, faces=tuple(next(faces, face) for face in analysis.faces))

    exchange.analyses = tuple(map(explained, exchange.analyses))
    for number, _, face in exchange.faces():
        if face.explanation is not None:
            exchange.writing.pop(number, None)
