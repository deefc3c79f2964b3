"""What the page does when something is pressed: handlers between Gradio's events and the conversations."""

import base64
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from html import escape, unescape
from pathlib import Path
from typing import Any

import anyio
import gradio as gr

from emoreason.apps.ui import export
from emoreason.apps.ui.answer import answer
from emoreason.apps.ui.conversation import Exchange, PageConversation, Settings
from emoreason.apps.ui.feedback import Feedback
from emoreason.apps.ui.messages import MessagePlace, messages, places
from emoreason.apps.ui.panel import panel
from emoreason.apps.ui.sessions import Sessions
from emoreason.apps.ui.words import words
from emoreason.core.errors import EmoreasonError
from emoreason.engine import Engines
from emoreason.evidence.zeroshot import check_labels
from emoreason.explain.explanation import Style
from emoreason.knowledge.emotions import LABEL_SETS

MAX_PICTURES = 10  # of one message
MAX_TEXT = 2000  # characters of a message
EXPORTS: dict[str, tuple[Callable[[PageConversation], str], str, str]] = {
    "markdown": (export.as_markdown, "emoreason.md", "text/markdown"),
    "json": (export.as_json, "emoreason.json", "application/json"),
    "csv": (export.as_csv, "emoreason.csv", "text/csv"),
}

Shown = tuple[Any, ...]  # chatbot, box, side


@dataclass
class Handlers:
    engines: Engines
    sessions: Sessions = field(default_factory=Sessions)
    feedback: Feedback = field(default_factory=Feedback)

    # ---- answering ---------------------------------------------------------------------------------------------------

    def send(self, request: gr.Request, box: dict[str, Any] | None, *wishes: Any) -> Iterator[Shown]:
        """The box was sent: its pictures, its text, or both."""
        text, files = ((box or {}).get("text") or "").strip(), (box or {}).get("files") or []
        yield from self._ask(request, text[:MAX_TEXT], [Path(file) for file in files], wishes)

    def snapshot(self, request: gr.Request, file: str | None, *wishes: Any) -> Iterator[Shown]:
        if file:
            yield from self._ask(request, "", [Path(file)], wishes, names=("webcam.png",))

    def example(self, path: Path) -> Callable[..., Iterator[Shown]]:
        """The handler for one example picture."""

        def show(request: gr.Request, *wishes: Any) -> Iterator[Shown]:
            conversation = self._conversation(request)
            exchange = conversation.begin("", (path,), (path.name,), self._settings(wishes))
            yield from self._answered(conversation, exchange)

        return show

    def retry(self, event: gr.RetryData, request: gr.Request, *wishes: Any) -> Iterator[Shown]:
        """The same again, in other words."""
        conversation = self._conversation(request)
        if (place := self._place(conversation, event.index)) is None:
            return
        taken = conversation.back_to(place.exchange)
        manner = replace(self._settings(wishes).manner, variation=taken.settings.manner.variation + 1)
        again = conversation.begin(taken.text, taken.uploads, taken.names, replace(taken.settings, manner=manner))
        yield from self._answered(conversation, again)

    def edit(self, event: gr.EditData, request: gr.Request, *wishes: Any) -> Iterator[Shown]:
        """Another question in the place of an old one; what came after it goes."""
        conversation = self._conversation(request)
        place = self._place(conversation, event.index)
        if place is None or place.kind != "question":
            yield self._shown(conversation)
            return
        taken = conversation.back_to(place.exchange)
        text = unescape(str(event.value)).strip()[:MAX_TEXT]  # it was shown escaped
        again = conversation.begin(text, taken.uploads, taken.names, self._settings(wishes))
        yield from self._answered(conversation, again)

    def undo(self, event: gr.UndoData, request: gr.Request) -> Shown:
        """Takes the last message away; its words come back into the box."""
        conversation = self._conversation(request)
        taken = conversation.back_to(len(conversation.exchanges) - 1) if conversation.exchanges else None
        chat, _, side = self._shown(conversation)
        return chat, gr.update(value={"text": taken.text if taken else "", "files": []}), side

    def clear(self, request: gr.Request) -> Shown:
        conversation = self._conversation(request)
        if conversation.exchanges:
            conversation.back_to(0)
        return self._shown(conversation)

    def stop(self, request: gr.Request) -> None:
        self._conversation(request).stop.set()

    def choose(self, event: gr.EventData, request: gr.Request) -> str:
        """A face was chosen at the side."""
        conversation = self._conversation(request)
        conversation.chosen = int(event.face)
        return self._side(conversation)

    def _ask(self, request: gr.Request, text: str, files: Sequence[Path], form: Sequence[Any],
             names: tuple[str, ...] | None = None) -> Iterator[Shown]:  # fmt: skip
        conversation = self._conversation(request)
        if not text and not files:
            yield self._shown(conversation)
            return
        try:
            if len(files) > MAX_PICTURES:
                raise EmoreasonError(words()["errors"]["too_many"].format(n=len(files), most=MAX_PICTURES))
            uploads = tuple(self.sessions.claim(str(request.session_hash), file) for file in files)
            settings = self._settings(form)
        except EmoreasonError as error:
            gr.Warning(str(error))
            yield self._shown(conversation, sent=False)
            return
        exchange = conversation.begin(text, uploads, names or tuple(file.name for file in files), settings)
        yield from self._answered(conversation, exchange)

    def _answered(self, conversation: PageConversation, exchange: Exchange) -> Iterator[Shown]:
        """The page while an answer is written. The side is sent again only when it has changed."""
        yield self._shown(conversation)
        before: Any = None
        for _ in answer(conversation, self.engines[exchange.settings.model], exchange):
            explained = [face.explanation is not None for _, _, face in conversation.faces()]
            now = (conversation.chosen, conversation.n_pictures, explained)
            side = gr.skip() if now == before else self._side(conversation)
            before = now
            yield messages(conversation), self._box(conversation), side

    # ---- what stands on the page -------------------------------------------------------------------------------------

    def _shown(self, conversation: PageConversation, sent: bool = True) -> Shown:
        return messages(conversation), self._box(conversation, sent), self._side(conversation)

    def _box(self, conversation: PageConversation, sent: bool = False) -> Any:
        emptied: dict[str, Any] = {"value": {"text": "", "files": []}} if sent else {}
        return gr.update(submit_btn=not conversation.busy, stop_btn=conversation.busy, **emptied)

    def _side(self, conversation: PageConversation) -> str:
        return panel(conversation.faces(), conversation.chosen, words(), conversation.n_pictures)

    def _conversation(self, request: gr.Request) -> PageConversation:
        return self.sessions.tab(str(request.session_hash)).conversation

    @staticmethod
    def _place(conversation: PageConversation, index: Any) -> MessagePlace | None:
        """What the message of the Chatbot shows that an event is about."""
        found = places(conversation)
        at = index[0] if isinstance(index, list | tuple) else index
        return found[at] if isinstance(at, int) and 0 <= at < len(found) else None

    def _settings(self, form: Sequence[Any]) -> Settings:
        """What stands under Settings, in the order in which the page lays it out."""
        model, label_set, own, decide, detect, length, temperature = form
        _ = self.engines[model]  # only those that were named at the start
        labels: tuple[str, ...] | None = None
        if own and own.strip():
            labels = check_labels(own.split(","))
        elif label_set in LABEL_SETS:
            labels = LABEL_SETS[label_set].labels
        manner = Style(float(temperature) if temperature else None, brief=length == "brief")
        return Settings(model, labels, bool(detect), decide, manner)

    # ---- the tab opens -----------------------------------------------------------------------------------------------

    async def loading(self) -> AsyncIterator[str]:
        """The page is there before the model is, and says so."""
        said, engine = words()["page"], self.engines[self.engines.default]
        name, seconds = escape(engine.name), 0.0
        while engine.state == "loading":
            yield said["loading_model"].format(name=name, seconds=seconds)
            await anyio.sleep(0.5)
            seconds += 0.5
        key = "failed" if engine.state == "failed" else "ready"
        yield said[key].format(name=name, why=escape(engine.problem))

    # ---- keeping -----------------------------------------------------------------------------------------------------

    def export(self, kind: str) -> Callable[[gr.Request], list[str]]:
        """The handler that makes one kind of file: its name, its type, and what is in it."""
        make, name, mime = EXPORTS[kind]

        def made(request: gr.Request) -> list[str]:
            conversation = self._conversation(request)
            if not conversation.exchanges:
                gr.Info(words()["page"]["nothing_to_keep"])
                return []
            return [name, mime, base64.b64encode(make(conversation).encode()).decode()]

        return made

    def like(self, opted: bool, event: gr.LikeData, request: gr.Request) -> None:
        """Thumbs up or down for a message."""
        said = words()["page"]
        if not opted:
            gr.Info(said["not_opted"])
            return
        conversation = self._conversation(request)
        if (place := self._place(conversation, event.index)) is None:
            return
        exchange = conversation.exchanges[place.exchange]
        numbers = (place.face,) if place.face else exchange.about or tuple(n for n, _, _ in exchange.faces())
        about = "answer" if place.kind == "answer" else "explanation"
        self._keep(conversation, [n for n in numbers if n], thumb="up" if event.liked else "down", about=about)

    def correct(self, opted: bool, label: str, request: gr.Request) -> Any:
        """The right label for the face that is shown at the side."""
        said = words()["page"]
        conversation = self._conversation(request)
        faces = conversation.faces()
        if not opted:
            gr.Info(said["not_opted"])
        elif not faces:
            gr.Info(said["no_face_to_rate"])
        elif self._keep(conversation, [conversation.chosen or faces[-1][0]], right_label=label):
            return ""
        return gr.skip()

    def _keep(self, conversation: PageConversation, numbers: Sequence[int], **opinion: Any) -> bool:
        try:
            for number in numbers:
                if shown := conversation.face(number):
                    self.feedback.add(shown[1], shown[2], **({"thumb": None, "right_label": None} | opinion))
        except EmoreasonError as error:
            gr.Warning(str(error))
            return False
        gr.Info(words()["page"]["kept"])
        return True
