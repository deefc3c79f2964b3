"""The layout of the page, and which handler each event calls. Handlers are in handlers.py and folder_tab.py."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from emoreason.apps.ui import about
from emoreason.apps.ui.cleanup import MAX_GRADIO_SESSIONS, close
from emoreason.apps.ui.export import SAVE
from emoreason.apps.ui.folder_tab import folder_tab
from emoreason.apps.ui.handlers import EXPORTS, Handlers
from emoreason.apps.ui.panel import JS_ON_LOAD, panel
from emoreason.apps.ui.views import data_uri
from emoreason.apps.ui.words import words
from emoreason.core.resources import resource
from emoreason.explain.explanation import DECIDERS
from emoreason.knowledge.emotions import LABEL_SETS

PICTURES = [".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"]
EXAMPLES = {"example_one": "examples/astronaut.jpg", "example_two": "examples/two.jpg"}
ICON = 96  # pixels of the pictures on the example buttons
TEMPERATURES = ["0", "0.5", "1", "1.5", "2", "3"]
MAX_ANSWERS = 32  # messages answered at once; the model batches them


def build(handlers: Handlers) -> gr.Blocks:
    texts = words()

    async def closed(request: gr.Request) -> None:
        await close(page, handlers.sessions, str(request.session_hash))

    with gr.Blocks(title=texts["page"]["title"], analytics_enabled=False, fill_width=True) as page:
        with gr.Row(elem_classes="er-head"):
            gr.HTML(f"<h1>{texts['page']['title']}</h1><p>{texts['page']['lead']}</p>", padding=False)
            status = gr.HTML(elem_classes="er-status", elem_id="er-status", padding=False)
        with gr.Tabs():
            with gr.Tab(texts["page"]["tabs"]["chat"], id="chat"):
                chat_tab(handlers)
            with gr.Tab(texts["page"]["tabs"]["folder"], id="folder"):
                folder_tab(handlers.engines, handlers.sessions)
                _policy()
            with gr.Tab(texts["page"]["tabs"]["model"], id="model") as tab:
                model_tab(handlers, tab)
        page.load(handlers.loading, None, status, show_progress="hidden", api_visibility="private")
        page.unload(closed)
    page.state_session_capacity = MAX_GRADIO_SESSIONS
    page.queue(max_size=200, default_concurrency_limit=MAX_ANSWERS, api_open=False)
    return page


def head() -> str:
    """The style sheet and the script. Gradio's css parameter breaks selectors with commas in brackets."""
    folder = files(__package__)
    style, script = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"<style>{style}{_icons()}</style><script>{script}</script>"


def _icons() -> str:
    """CSS for the pictures on the example buttons. Gradio would store them with the uploads, which are deleted."""
    rules = []
    for key, path in EXAMPLES.items():
        with Image.open(resource(path)) as image:
            ratio, uri = image.width / image.height, data_uri(image, ICON)
        rules.append(f'#er-{key}::before{{aspect-ratio:{ratio:.2f};background-image:url("{uri}")}}')
    return "".join(rules)


def theme() -> gr.themes.Base:
    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


# ---- the conversation ------------------------------------------------------------------------------------------------


def chat_tab(handlers: Handlers) -> None:
    texts = words()["page"]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320, elem_classes="er-middle"):
            chat = gr.Chatbot(label=texts["conversation"], show_label=False, elem_id="er-chat", height="60vh",
                              min_height=320, layout="bubble", editable="user", buttons=["copy"],
                              feedback_options=["Like", "Dislike"], latex_delimiters=[], placeholder=_empty(),
                              allow_file_downloads=False)  # fmt: skip
            examples = _examples(texts)
            box = gr.MultimodalTextbox(label=texts["box_label"], show_label=False, placeholder=texts["box"],
                                       file_types=PICTURES, file_count="multiple", sources=["upload"], lines=1,
                                       max_lines=6, elem_id="er-box", stop_btn=False)  # fmt: skip
            _policy()
            with gr.Accordion(texts["webcam"], open=False, elem_id="er-webcam"):
                webcam = gr.Image(sources=["webcam"], type="filepath", label=texts["webcam_label"], format="png",
                                  height=280, buttons=[])  # fmt: skip
            form = _settings(handlers, texts)
        with gr.Column(scale=2, min_width=320, elem_classes="er-side"):
            side = gr.HTML(panel([], None, words()), js_on_load=JS_ON_LOAD, apply_default_css=False, elem_id="er-panel")
            _save_and_feedback(handlers, chat, texts)
    quiet: dict[str, Any] = {"outputs": [chat, box, side], "show_progress": "hidden", "api_visibility": "private"}
    # All answers share one limit below the 40 threads of Gradio, so that Stop always finds a free one.
    live = quiet | {"concurrency_id": "answers", "concurrency_limit": MAX_ANSWERS}
    at_once = quiet | {"queue": False}
    box.submit(handlers.send, [box, *form], **live)
    box.stop(handlers.stop, None, None, queue=False, show_progress="hidden", api_visibility="private")
    webcam.input(handlers.snapshot, [webcam, *form], **live).then(lambda: None, None, webcam, show_progress="hidden",
                                                                    api_visibility="private")  # fmt: skip
    for button, path in examples:
        button.click(handlers.example(path), form, **live)
    chat.retry(handlers.retry, form, **live)
    chat.edit(handlers.edit, form, **live)
    chat.undo(handlers.undo, None, **at_once)
    chat.clear(handlers.clear, None, **at_once)
    side.select(handlers.choose, None, side, queue=False, show_progress="hidden", api_visibility="private")


def _empty() -> str:
    texts = words()["page"]
    return f'<div class="er-drop"><p>{texts["empty"]}</p><p class="er-note">{texts["empty_more"]}</p></div>'


def _examples(texts: dict[str, Any]) -> list[tuple[gr.Button, Path]]:
    """Buttons that send an example picture."""
    with gr.Row(elem_classes="er-examples"):
        gr.HTML(f'<span class="er-note">{texts["examples"]}</span>', padding=False)
        return [
            (gr.Button(texts[key], size="sm", elem_id=f"er-{key}"), resource(path)) for key, path in EXAMPLES.items()
        ]


def _settings(handlers: Handlers, texts: dict[str, Any]) -> list[Any]:
    """The Settings section, in the order that `Handlers._settings` reads."""
    sets = [(texts["own_set"], ""), *((f"{name}: {', '.join(s.labels)}", name) for name, s in LABEL_SETS.items())]
    with gr.Accordion(texts["settings"], open=False, elem_id="er-settings"):
        with gr.Row():
            model = gr.Dropdown(list(handlers.engines.names), value=handlers.engines.default, label=texts["model"])
            label_set = gr.Dropdown(sets, value="", label=texts["label_set"])
        own = gr.Textbox(label=texts["own_labels"], info=texts["own_labels_info"], max_lines=1, elem_id="er-own-labels")
        with gr.Row():
            decide = gr.Radio([(texts["deciders"][name], name) for name in DECIDERS], value="evidence",
                              label=texts["decide"], info=texts["decide_info"])  # fmt: skip
            detect = gr.Checkbox(True, label=texts["detect"], info=texts["detect_info"])
        with gr.Row():
            length = gr.Radio([(texts["lengths"][name], name) for name in ("full", "brief")], value="full",
                              label=texts["length"])  # fmt: skip
            usual: list[Any] = [(texts["temperature_usual"], ""), *TEMPERATURES]
            temperature = gr.Dropdown(usual, value="", label=texts["temperature"], info=texts["temperature_info"])
    return [model, label_set, own, decide, detect, length, temperature]


def _save_and_feedback(handlers: Handlers, chat: gr.Chatbot, texts: dict[str, Any]) -> None:
    """Downloads of the conversation, and feedback for training."""
    # These events are queued, because only queued events can show notices.
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    with gr.Accordion(texts["keep"], open=False, elem_id="er-keep"), gr.Row():
        file = gr.JSON(visible=False)
        for kind in EXPORTS:
            button = gr.Button(texts[kind], size="sm", elem_id=f"er-export-{kind}")
            button.click(handlers.export(kind), None, file, **quiet).then(None, file, file, js=SAVE, **quiet)
    with gr.Accordion(texts["opinion"], open=False, elem_id="er-opinion"):
        info = texts["opt_in_info"].format(path=handlers.feedback.file)
        opted = gr.Checkbox(False, label=texts["opt_in"], info=info)
        with gr.Row():
            right = gr.Textbox(label=texts["right_label"], max_lines=1, scale=3)
            keep = gr.Button(texts["save_label"], size="sm", scale=1)
    chat.like(handlers.like, opted, None, **quiet)
    keep.click(handlers.correct, [opted, right], right, **quiet)
    right.submit(handlers.correct, [opted, right], right, **quiet)


# ---- the model -------------------------------------------------------------------------------------------------------


def model_tab(handlers: Handlers, tab: gr.Tab) -> None:
    texts = words()["model_tab"]
    facts = gr.Markdown(texts["waiting"])
    with gr.Accordion(texts["policy"], open=True, elem_id="policy"):
        gr.Markdown(about.policy())
    parts = []
    for name in ("scores", "card", "licence", "versions"):
        with gr.Accordion(texts[name], open=name == "scores"):
            parts.append(gr.Markdown())

    def show() -> list[str]:
        reasoner = handlers.engines[handlers.engines.default].reasoner
        return [about.model_facts(reasoner), about.scores(reasoner), about.card(reasoner), about.licence(reasoner),
                about.versions()]  # fmt: skip

    tab.select(show, None, [facts, *parts], show_progress="hidden", api_visibility="private")


def _policy() -> None:
    texts = words()["page"]
    link = f'<a href="#policy" class="er-to-policy">{texts["policy_link"]}</a>'
    gr.HTML(f"{texts['policy']} {link}", elem_classes="er-policy", padding=False)
