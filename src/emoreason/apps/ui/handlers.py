"""Handlers of Gradio's events: sending, retrying, editing, stopping, exporting, and feedback."""

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
from emoreason.apps.ui.messages import MessageRef, message_refs, messages
from emoreason.apps.ui.panel import panel
from emoreason.apps.ui.sessions import Sessions
from emoreason.apps.ui.words import words
from emoreason.core.errors import EmoreasonError
from emoreason.engine import Engines
from emoreason.evidence.zeroshot import check_labels
from emoreason.explain.explanation import Style
from emoreason.knowledge.emotions import LABEL_SETS

MAX_PICTURES = 10  # per message
MAX_TEXT = 2000  # characters per message
EXPORTS: dict[str, tuple[Callable[[PageConversation], str], str, str]] = {
    "markdown": (export.as_markdown, "emoreason.md", "text/markdown"),
    "json": (export.as_json, "emoreason.json", "application/json"),
    "csv": (export.as_csv, "emoreason.csv", "text/csv"),
}

PageUpdate = tuple[Any, ...]  # new values of the chatbot, the message box and the evidence panel


@dataclass
class Handlers:
    """The event handlers of the chat tab. A `form` holds the values of the Settings section."""

    engines: Engines
    sessions: Sessions = field(default_factory=Sessions)
    feedback: Feedback = field(default_factory=Feedback)

    # ---- answering ---------------------------------------------------------------------------------------------------

    def send(self, request: gr.Request, box: dict[str, Any] | None, *form: Any) -> Iterator[PageUpdate]:
        """Answers the pictures and the text of the message box."""
        text, files = ((box or {}).get("text") or "").strip(), (box or {}).get("files") or []
        yield from self._ask(request, text[:MAX_TEXT], [Path(file) for file in files], form)

    def snapshot(self, request: gr.Request, file: str | None, *form: Any) -> Iterator[PageUpdate]:
        if file:
            yield from self._ask(request, "", [Path(file)], form, names=("webcam.png",))

    def example(self, path: Path) -> Callable[..., Iterator[PageUpdate]]:
        """The handler for one example picture."""

        def show(request: gr.Request, *form: Any) -> Iterator[PageUpdate]:
            conversation = self._conversation(request)
            exchange = conversation.begin("", (path,), (path.name,), self._settings(form))
            yield from self._stream_answer(conversation, exchange)

        return show

    def retry(self, event: gr.RetryData, request: gr.Request, *form: Any) -> Iterator[PageUpdate]:
        """Answers again, with another wording."""
        conversation = self._conversation(request)
        if (ref := self._message_ref(conversation, event.index)) is None:
            return
        old = conversation.rewind(ref.exchange)
        style = replace(self._settings(form).style, variation=old.settings.style.variation + 1)
        new = conversation.begin(old.text, old.uploads, old.names, replace(old.settings, style=style))
        yield from self._stream_answer(conversation, new)

    def edit(self, event: gr.EditData, request: gr.Request, *form: Any) -> Iterator[PageUpdate]:
        """Asks an edited question, and removes everything after the old one."""
        conversation = self._conversation(request)
        ref = self._message_ref(conversation, event.index)
        if ref is None or ref.kind != "question":
            yield self._update(conversation)
            return
        old = conversation.rewind(ref.exchange)
        text = unescape(str(event.value)).strip()[:MAX_TEXT]  # the chatbot shows it escaped
        new = conversation.begin(text, old.uploads, old.names, self._settings(form))
        yield from self._stream_answer(conversation, new)

    def undo(self, event: gr.UndoData, request: gr.Request) -> PageUpdate:
        """Removes the last message and puts its text back into the message box."""
        conversation = self._conversation(request)
        removed = conversation.rewind(len(conversation.exchanges) - 1) if conversation.exchanges else None
        chat, _, side = self._update(conversation)
        return chat, gr.update(value={"text": removed.text if removed else "", "files": []}), side

    def clear(self, request: gr.Request) -> PageUpdate:
        conversation = self._conversation(request)
        if conversation.exchanges:
            conversation.rewind(0)
        return self._update(conversation)

    def stop(self, request: gr.Request) -> None:
        self._conversation(request).stop.set()

    def choose(self, event: gr.EventData, request: gr.Request) -> str:
        """Shows the evidence of the chosen face."""
        conversation = self._conversation(request)
        conversation.chosen = int(event.face)
        return self._side(conversation)

    def _ask(self, request: gr.Request, text: str, files: Sequence[Path], form: Sequence[Any],
             names: tuple[str, ...] | None = None) -> Iterator[PageUpdate]:  # fmt: skip
        conversation = self._conversation(request)
        if not text and not files:
            yield self._update(conversation)
            return
        try:
            if len(files) > MAX_PICTURES:
                raise EmoreasonError(words()["errors"]["too_many"].format(n=len(files), limit=MAX_PICTURES))
            uploads = tuple(self.sessions.claim(str(request.session_hash), file) for file in files)
            settings = self._settings(form)
        except EmoreasonError as error:
            gr.Warning(str(error))
            yield self._update(conversation, sent=False)
            return
        exchange = conversation.begin(text, uploads, names or tuple(file.name for file in files), settings)
        yield from self._stream_answer(conversation, exchange)

    def _stream_answer(self, conversation: PageConversation, exchange: Exchange) -> Iterator[PageUpdate]:
        """Page updates while an answer is generated. Sends the panel again only if it changed."""
        yield self._update(conversation)
        last: Any = None
        for _ in answer(conversation, self.engines[exchange.settings.model], exchange):
            explained = [face.explanation is not None for _, _, face in conversation.faces()]
            state = (conversation.chosen, conversation.n_pictures, explained)
            side = gr.skip() if state == last else self._side(conversation)
            last = state
            yield messages(conversation), self._box(conversation), side

    # ---- parts of the page -------------------------------------------------------------------------------------------

    def _update(self, conversation: PageConversation, sent: bool = True) -> PageUpdate:
        return messages(conversation), self._box(conversation, sent), self._side(conversation)

    def _box(self, conversation: PageConversation, sent: bool = False) -> Any:
        emptied: dict[str, Any] = {"value": {"text": "", "files": []}} if sent else {}
        return gr.update(submit_btn=not conversation.busy, stop_btn=conversation.busy, **emptied)

    def _side(self, conversation: PageConversation) -> str:
        return panel(conversation.faces(), conversation.chosen, words(), conversation.n_pictures)

    def _conversation(self, request: gr.Request) -> PageConversation:
        return self.sessions.tab(str(request.session_hash)).conversation

    @staticmethod
    def _message_ref(conversation: PageConversation, index: Any) -> MessageRef | None:
        """What the chatbot message at `index` shows."""
        refs = message_refs(conversation)
        i = index[0] if isinstance(index, list | tuple) else index
        return refs[i] if isinstance(i, int) and 0 <= i < len(refs) else None

    def _settings(self, form: Sequence[Any]) -> Settings:
        """The values of the Settings section, in the order of the page."""
        model, label_set, own, decide, detect, length, temperature = form
        _ = self.engines[model]  # raises for models that this server does not offer
        labels: tuple[str, ...] | None = None
        if own and own.strip():
            labels = check_labels(own.split(","))
        elif label_set in LABEL_SETS:
            labels = LABEL_SETS[label_set].labels
        style = Style(float(temperature) if temperature else None, brief=length == "brief")
        return Settings(model, labels, bool(detect), decide, style)

    # ---- the tab opens -----------------------------------------------------------------------------------------------

    async def loading(self) -> AsyncIterator[str]:
        """The status line while the model is loading, because the page opens before the model is ready."""
        texts, engine = words()["page"], self.engines[self.engines.default]
        name, seconds = escape(engine.name), 0.0
        while engine.state == "loading":
            yield texts["loading_model"].format(name=name, seconds=seconds)
            await anyio.sleep(0.5)
            seconds += 0.5
        key = "failed" if engine.state == "failed" else "ready"
        yield texts[key].format(name=name, why=escape(engine.problem))

    # ---- downloads and feedback --------------------------------------------------------------------------------------

    def export(self, kind: str) -> Callable[[gr.Request], list[str]]:
        """The handler for one kind of download. It returns the file's name, MIME type and base64 content."""
        make, name, mime = EXPORTS[kind]

        def download(request: gr.Request) -> list[str]:
            conversation = self._conversation(request)
            if not conversation.exchanges:
                gr.Info(words()["page"]["nothing_to_keep"])
                return []
            return [name, mime, base64.b64encode(make(conversation).encode()).decode()]

        return download

    def like(self, opted: bool, event: gr.LikeData, request: gr.Request) -> None:
        """Saves a thumb up or down for a message."""
        texts = words()["page"]
        if not opted:
            gr.Info(texts["not_opted"])
            return
        conversation = self._conversation(request)
        if (ref := self._message_ref(conversation, event.index)) is None:
            return
        exchange = conversation.exchanges[ref.exchange]
        numbers = (ref.face,) if ref.face else exchange.about or tuple(n for n, _, _ in exchange.faces())
        about = "answer" if ref.kind == "answer" else "explanation"
        self._save_feedback(conversation, [n for n in numbers if n], thumb="up" if event.liked else "down", about=about)

    def correct(self, opted: bool, label: str, request: gr.Request) -> Any:
        """Saves the right label for the face in the panel."""
        texts = words()["page"]
        conversation = self._conversation(request)
        faces = conversation.faces()
        if not opted:
            gr.Info(texts["not_opted"])
        elif not faces:
            gr.Info(texts["no_face_to_rate"])
        elif self._save_feedback(conversation, [conversation.chosen or faces[-1][0]], right_label=label):
            return ""
        return gr.skip()

    def _save_feedback(self, conversation: PageConversation, numbers: Sequence[int], **feedback: Any) -> bool:
        try:
            for number in numbers:
                if found := conversation.face(number):
                    self.feedback.add(found[1], found[2], **({"thumb": None, "right_label": None} | feedback))
        except EmoreasonError as error:
            gr.Warning(str(error))
            return False
        gr.Info(words()["page"]["kept"])
        return True
