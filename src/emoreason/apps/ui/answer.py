"""Answers one message: updates the conversation with each event of the model."""

import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from emoreason.analysis import Analysis
from emoreason.apps.ui.conversation import Exchange, PageConversation, with_small_picture
from emoreason.apps.ui.views import data_uri
from emoreason.apps.ui.words import words
from emoreason.chat import AnswerStarted, ChatOptions, Explained, FacesMeasured, Memory, Queued, TextStarted, converse
from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Picture
from emoreason.engine import Engine, Stopped
from emoreason.media.images import Limits, open_picture

PICTURE_LIMITS = Limits(max_bytes=32 * 2**20, max_pixels=50_000_000)
THUMBNAIL = 320  # pixels of a picture in the conversation
REFRESH_S = 0.06  # seconds between two updates of a growing text
MAX_REFRESH_S = 1.0  # with many readers the page costs about as much as the model, so each one updates less often

log = logging.getLogger("emoreason.ui")


def answer(conversation: PageConversation, engine: Engine, exchange: Exchange) -> Iterator[None]:
    """Yields whenever there is something new to show. Puts the message of any error into `exchange.error`."""
    stop, memory = conversation.stop, conversation.memory
    try:
        pictures = tuple(_open_pictures(exchange))
        exchange.loading = engine.state == "loading"
        yield
        caller = engine.caller(stop)
        _ = caller.name  # waits until the model is loaded or the user stops
        exchange.loading = False
        settings = exchange.settings
        options = ChatOptions(settings.labels, settings.detect, settings.decide, settings.style)
        content = [{"type": "image", "image": picture} for picture in pictures]
        content += [{"type": "text", "text": exchange.text}]
        last_update = 0.0
        for event in converse(caller, memory, {"role": "user", "content": content}, options):
            match event:
                case Queued(ahead):
                    exchange.ahead = ahead
                case FacesMeasured(analyses, first):
                    exchange.analyses, exchange.first = tuple(map(with_small_picture, analyses)), first
                    conversation.chosen = None
                case TextStarted(number):
                    _copy_explanations(exchange, memory)
                    current = number
                    if number:
                        exchange.writing[number] = ""
                case AnswerStarted(about):
                    exchange.about = about
                    conversation.chosen = about[0]
                    current = None
                case Explained(analyses):
                    exchange.analyses, exchange.writing = tuple(map(with_small_picture, analyses)), {}
                case str():
                    exchange.ahead = None
                    if current:
                        exchange.writing[current] += event
                    else:
                        exchange.answer += event
                    if time.monotonic() - last_update < min(REFRESH_S * max(1, engine.running), MAX_REFRESH_S):
                        continue
                    last_update = time.monotonic()
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
        stop.set()  # ends the work in the engine, if it still runs
        exchange.running, exchange.ahead = False, None
        _copy_explanations(exchange, memory)
    yield


def _open_pictures(exchange: Exchange) -> Iterator[Picture]:
    """Opens the uploads under the names that the user sent."""
    thumbnails = []
    for path, name in zip(exchange.uploads, exchange.names, strict=True):
        try:
            picture = open_picture(path, PICTURE_LIMITS)
        except EmoreasonError as error:
            raise EmoreasonError(str(error).replace(str(path), name)) from None
        thumbnails.append(data_uri(picture.image, THUMBNAIL))
        exchange.thumbnails = tuple(thumbnails)
        yield replace(picture, source=name)


def _copy_explanations(exchange: Exchange, memory: Memory) -> None:
    """Copies finished explanations from the memory, while other faces are still waiting."""
    faces = iter(memory.faces[exchange.first - 1 :] if exchange.first else ())

    def with_explanations(analysis: Analysis) -> Analysis:
        return replace(analysis, faces=tuple(next(faces, face) for face in analysis.faces))

    exchange.analyses = tuple(map(with_explanations, exchange.analyses))
    for number, _, face in exchange.faces():
        if face.explanation is not None:
            exchange.writing.pop(number, None)
