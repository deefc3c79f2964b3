"""The tab that labels a folder: upload, progress bar, table of rows, and downloads."""

import base64
import threading
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from emoreason.apps.ui.export import SAVE
from emoreason.apps.ui.folder import label_files, row_columns, rows_file, summary
from emoreason.apps.ui.sessions import Sessions
from emoreason.apps.ui.words import words
from emoreason.core.errors import EmoreasonError
from emoreason.engine import Engines
from emoreason.evidence.zeroshot import check_labels

MAX_ROWS = 200  # rows shown in the table
TABLE = {  # columns shown, with their widths
    "source": "15%", "face_id": "9%", "status": "9%", "label": "12%", "confidence": "13%", "valence": "10%",
    "arousal": "10%", "explanation": "13%", "error": "9%",
}  # fmt: skip
MIME_TYPES = {"jsonl": "application/jsonl", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def folder_tab(engines: Engines, sessions: Sessions) -> None:
    texts, page = words()["folder_tab"], words()["page"]
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            uploads = gr.File(file_count="multiple", file_types=["image", ".zip"], type="filepath",
                              label=texts["files"], elem_id="er-files", height=220)  # fmt: skip
            own = gr.Textbox(label=page["own_labels"], info=texts["own_labels_info"], max_lines=1,
                             elem_id="er-folder-labels")  # fmt: skip
            detect = gr.Checkbox(True, label=page["detect"], info=page["detect_info"])
            explain = gr.Checkbox(False, label=texts["explain"])
            with gr.Row():
                begin = gr.Button(texts["begin"], variant="primary", elem_id="er-label")
                stop = gr.Button(texts["stop"], elem_id="er-label-stop")
        with gr.Column(scale=2, min_width=320):
            progress = gr.HTML(_bar(0, 0, texts["empty"]), elem_id="er-progress", padding=False)
            table = gr.Dataframe(headers=list(TABLE), value=[], interactive=False, wrap=True, label=texts["table"],
                                 elem_id="er-rows", show_label=False, column_widths=list(TABLE.values()))  # fmt: skip
            with gr.Row():
                file = gr.JSON(visible=False)
                savers = {kind: gr.Button(texts[kind], size="sm", elem_id=f"er-rows-{kind}") for kind in MIME_TYPES}

    def run(files: list[str] | None, labels: str, detect: bool, explain: bool, request: gr.Request) -> Iterator[Any]:
        yield from _label(engines, sessions, files or [], labels, detect, explain, str(request.session_hash))

    def stop_labeling(request: gr.Request) -> None:
        sessions.tab(str(request.session_hash)).labeling.set()

    def saver(kind: str) -> Callable[[gr.Request], list[str]]:
        def save(request: gr.Request) -> list[str]:
            tab = sessions.tab(str(request.session_hash))
            if not tab.rows:
                gr.Info(page["nothing_to_keep"])
                return []
            content = rows_file(tab.rows, tab.columns, kind)
            return [f"rows.{kind}", MIME_TYPES[kind], base64.b64encode(content).decode()]

        return save

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    begin.click(run, [uploads, own, detect, explain], [progress, table], show_progress="hidden", concurrency_limit=4,
                api_visibility="private")  # fmt: skip
    stop.click(stop_labeling, None, None, queue=False, **quiet)
    for kind, button in savers.items():
        button.click(saver(kind), None, file, **quiet).then(None, file, file, js=SAVE, **quiet)


def _label(engines: Engines, sessions: Sessions, files: list[str], labels: str, detect: bool, explain: bool,
           key: str) -> Iterator[tuple[str, Any]]:  # fmt: skip
    """Yields updates of (progress bar, table). The rows stay with the tab for the downloads."""
    texts, tab = words()["folder_tab"], sessions.tab(key)
    if not files:
        yield _bar(0, 0, texts["none"]), gr.skip()
        return
    tab.labeling.set()  # stops an earlier run: one folder at a time
    tab.labeling = stop = threading.Event()
    rows = tab.rows = []
    done = total = 0
    try:
        label_names = check_labels(labels.split(",")) if labels.strip() else None
        caller = engines[engines.default].caller(stop)
        yield _bar(0, 0, words()["page"]["looking"]), []
        tab.columns = row_columns(caller, label_names)
        uploads: list[Path] = [sessions.claim(key, file) for file in files]
        for step in label_files(caller, uploads, label_names, detect=detect, explain=explain, stop=stop):
            rows.extend(step.rows)
            done, total = step.done, step.total
            text = texts["progress"].format(done=done, total=total)
            yield _bar(done, total, f"{text} {step.note}".strip()), _table(rows) if step.rows else gr.skip()
    except EmoreasonError as error:
        yield _bar(done, total, str(error), "er-error"), _table(rows)
        return
    message = texts["stopped" if stop.is_set() else "finished"].format(done=done, total=total, summary=summary(rows))
    more = f" {texts['more'].format(n=MAX_ROWS, total=len(rows))}" if len(rows) > MAX_ROWS else ""
    yield _bar(done, total, message + more), _table(rows)


def _table(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [["" if row.get(name) is None else row[name] for name in TABLE] for row in rows[:MAX_ROWS]]


def _bar(done: int, total: int, text: str, kind: str = "") -> str:
    return (
        f'<progress class="er-progress-bar" value="{done}" max="{max(total, 1)}" aria-label="{escape(text)}">'
        "</progress>"
        f'<p class="er-note {kind}" role="status">{escape(text)}</p>'
    )
