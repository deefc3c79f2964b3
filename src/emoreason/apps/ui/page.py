"""The page: what stands where, and which handler answers to what. The handlers are in desk.py and folder_tab.py."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from emoreason.apps.ui import about
from emoreason.apps.ui.cleanup import OPEN, close
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
ICON = 96  # pixels of their pictures
TEMPERATURES = ["0", "0.5", "1", "1.5", "2", "3"]
TOGETHER = 32  # messages that are answered at once; the model itself batches them


def build(desk: Handlers) -> gr.Blocks:
    said = words()

    async def closed(request: gr.Request) -> None:
        await close(page, desk.sessions, str(request.session_hash))

    with gr.Blocks(title=said["page"]["title"], analytics_enabled=False, fill_width=True) as page:
        with gr.Row(elem_classes="er-head"):
            gr.HTML(f"<h1>{said['page']['title']}</h1><p>{said['page']['lead']}</p>", padding=False)
            status = gr.HTML(elem_classes="er-status", elem_id="er-status", padding=False)
        with gr.Tabs():
            with gr.Tab(said["page"]["tabs"]["chat"], id="chat"):
                chat_tab(desk)
            with gr.Tab(said["page"]["tabs"]["folder"], id="folder"):
                folder_tab(desk.engines, desk.sessions)
                _policy()
            with gr.Tab(said["page"]["tabs"]["model"], id="model") as tab:
                model_tab(desk, tab)
        page.load(desk.loading, None, status, show_progress="hidden", api_visibility="private")
        page.unload(closed)
    page.state_session_capacity = OPEN
    page.queue(max_size=200, default_concurrency_limit=TOGETHER, api_open=False)
    return page


def head() -> str:
    """Style and script. Gradio's own way for styles breaks selectors with commas in brackets."""
    here = files(__package__)
    style, script = (here.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"<style>{style}{_icons()}</style><script>{script}</script>"


def _icons() -> str:
    """Of the example buttons. Gradio would lay them among the uploads, and those are deleted."""
    rules = []
    for key, path in EXAMPLES.items():
        with Image.open(resource(path)) as image:
            ratio, uri = image.width / image.height, data_uri(image, ICON)
        rules.append(f'#er-{key}::before{{aspect-ratio:{ratio:.2f};background-image:url("{uri}")}}')
    return "".join(rules)


def theme() -> gr.themes.Base:
    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


# ---- the conversation ------------------------------------------------------------------------------------------------


def chat_tab(desk: Handlers) -> None:
    said = words()["page"]
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320, elem_classes="er-middle"):
            chat = gr.Chatbot(label=said["conversation"], show_label=False, elem_id="er-chat", height="60vh",
                              min_height=320, layout="bubble", editable="user", buttons=["copy"],
                              feedback_options=["Like", "Dislike"], latex_delimiters=[], placeholder=_empty(),
                              allow_file_downloads=False)  # fmt: skip
            examples = _examples(said)
            box = gr.MultimodalTextbox(label=said["box_label"], show_label=False, placeholder=said["box"],
                                       file_types=PICTURES, file_count="multiple", sources=["upload"], lines=1,
                                       max_lines=6, elem_id="er-box", stop_btn=False)  # fmt: skip
            _policy()
            with gr.Accordion(said["webcam"], open=False, elem_id="er-webcam"):
                webcam = gr.Image(sources=["webcam"], type="filepath", label=said["webcam_label"], format="png",
                                  height=280, buttons=[])  # fmt: skip
            wishes = _settings(desk, said)
        with gr.Column(scale=2, min_width=320, elem_classes="er-side"):
            side = gr.HTML(panel([], None, words()), js_on_load=JS_ON_LOAD, apply_default_css=False, elem_id="er-panel")
            _keeping(desk, chat, said)
    shown = [chat, box, side]
    quiet: dict[str, Any] = {"outputs": shown, "show_progress": "hidden", "api_visibility": "private"}
    # all answers share one limit, below the 40 threads that Gradio has: stop and the like find one in any case
    live = quiet | {"concurrency_id": "answers", "concurrency_limit": TOGETHER}
    at_once = quiet | {"queue": False}
    box.submit(desk.send, [box, *wishes], **live)
    box.stop(desk.stop, None, None, queue=False, show_progress="hidden", api_visibility="private")
    webcam.input(desk.snapshot, [webcam, *wishes], **live).then(lambda: None, None, webcam, show_progress="hidden",
                                                                api_visibility="private")  # fmt: skip
    for button, path in examples:
        button.click(desk.example(path), wishes, **live)
    chat.retry(desk.retry, wishes, **live)
    chat.edit(desk.edit, wishes, **live)
    chat.undo(desk.undo, None, **at_once)
    chat.clear(desk.clear, None, **at_once)
    side.select(desk.choose, None, side, queue=False, show_progress="hidden", api_visibility="private")


def _empty() -> str:
    said = words()["page"]
    return f'<div class="er-drop"><p>{said["empty"]}</p><p class="er-note">{said["empty_more"]}</p></div>'


def _examples(said: dict[str, Any]) -> list[tuple[gr.Button, Path]]:
    """Pictures that answer when they are pressed."""
    with gr.Row(elem_classes="er-examples"):
        gr.HTML(f'<span class="er-note">{said["examples"]}</span>', padding=False)
        return [
            (gr.Button(said[key], size="sm", elem_id=f"er-{key}"), resource(path)) for key, path in EXAMPLES.items()
        ]


def _settings(desk: Handlers, said: dict[str, Any]) -> list[Any]:
    """What a message is asked with, in the order that Desk reads it."""
    sets = [(said["own_set"], ""), *((f"{name}: {', '.join(s.labels)}", name) for name, s in LABEL_SETS.items())]
    with gr.Accordion(said["settings"], open=False, elem_id="er-settings"):
        with gr.Row():
            model = gr.Dropdown(list(desk.engines.names), value=desk.engines.default, label=said["model"])
            label_set = gr.Dropdown(sets, value="", label=said["label_set"])
        own = gr.Textbox(label=said["own_labels"], info=said["own_labels_info"], max_lines=1, elem_id="er-own-labels")
        with gr.Row():
            decide = gr.Radio([(said["deciders"][name], name) for name in DECIDERS], value="evidence",
                              label=said["decide"], info=said["decide_info"])  # fmt: skip
            detect = gr.Checkbox(True, label=said["detect"], info=said["detect_info"])
        with gr.Row():
            length = gr.Radio([(said["lengths"][name], name) for name in ("full", "brief")], value="full",
                              label=said["length"])  # fmt: skip
            usual: list[Any] = [(said["temperature_usual"], ""), *TEMPERATURES]
            temperature = gr.Dropdown(usual, value="", label=said["temperature"], info=said["temperature_info"])
    return [model, label_set, own, decide, detect, length, temperature]


def _keeping(desk: Handlers, chat: gr.Chatbot, said: dict[str, Any]) -> None:
    """Files for the user, and opinions for training."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}  # queued: only so may they notify
    with gr.Accordion(said["keep"], open=False, elem_id="er-keep"), gr.Row():
        file = gr.JSON(visible=False)
        for kind in EXPORTS:
            button = gr.Button(said[kind], size="sm", elem_id=f"er-export-{kind}")
            button.click(desk.export(kind), None, file, **quiet).then(None, file, file, js=SAVE, **quiet)
    with gr.Accordion(said["opinion"], open=False, elem_id="er-opinion"):
        info = said["opt_in_info"].format(place=desk.feedback.file)
        opted = gr.Checkbox(False, label=said["opt_in"], info=info)
        with gr.Row():
            right = gr.Textbox(label=said["right_label"], max_lines=1, scale=3)
            keep = gr.Button(said["save_label"], size="sm", scale=1)
    chat.like(desk.like, opted, None, **quiet)
    keep.click(desk.correct, [opted, right], right, **quiet)
    right.submit(desk.correct, [opted, right], right, **quiet)


# ---- the model -------------------------------------------------------------------------------------------------------


def model_tab(desk: Handlers, tab: gr.Tab) -> None:
    said = words()["model_tab"]
    facts = gr.Markdown(said["waiting"])
    with gr.Accordion(said["policy"], open=True, elem_id="policy"):
        gr.Markdown(about.policy())
    parts = []
    for name in ("scores", "card", "licence", "versions"):
        with gr.Accordion(said[name], open=name == "scores"):
            parts.append(gr.Markdown())

    def show() -> list[str]:
        reasoner = desk.engines[desk.engines.default].reasoner
        return [about.model_facts(reasoner), about.scores(reasoner), about.card(reasoner), about.licence(reasoner),
                about.versions()]  # fmt: skip

    tab.select(show, None, [facts, *parts], show_progress="hidden", api_visibility="private")


def _policy() -> None:
    said = words()["page"]
    link = f'<a href="#policy" class="er-to-policy">{said["policy_link"]}</a>'
    gr.HTML(f"{said['policy']} {link}", elem_classes="er-policy", padding=False)
