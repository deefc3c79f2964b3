"""Starts the page: on a server of its own, or beside the API."""

import os
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from emoreason.apps.api import server as serve
from emoreason.apps.api.app import ApiSettings
from emoreason.apps.api.metrics import Metrics
from emoreason.apps.api.service import Service
from emoreason.core.errors import UsageError
from emoreason.engine import Engines

UPLOAD = "200mb"  # of one file: a zip of pictures; single pictures have limits of their own


@dataclass(frozen=True)
class PageSettings:
    auth: tuple[str, str] | None = None
    root_path: str = ""
    feedback: Path | None = None  # None: the user's data folder


def page_app(engines: Engines, settings: PageSettings) -> FastAPI:
    """The page alone. The model begins to load before the page's own packages are there."""
    _ = engines[engines.default]
    app = FastAPI(openapi_url=None)
    app.state.service = Service(engines, ApiSettings(root_path=settings.root_path), Metrics())
    return with_page(app, engines, settings)


def with_page(app: FastAPI, engines: Engines, settings: PageSettings) -> FastAPI:
    """The page at the root of an app; its own routes come first."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]  # they could share the page, open folders to it, or move it elsewhere
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1000"  # more than wait and run at once
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = "1000000000"  # else all of them become a table after each one
    from emoreason.apps.ui.sessions import Sessions

    sessions = Sessions()
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.folder)
    import gradio as gr
    from starlette.middleware.cors import CORSMiddleware

    from emoreason.apps.ui.feedback import Feedback
    from emoreason.apps.ui.handlers import Handlers
    from emoreason.apps.ui.middleware import PageMiddleware
    from emoreason.apps.ui.page import build, head, theme

    desk = Handlers(engines, sessions, Feedback(settings.feedback) if settings.feedback else Feedback())
    app.state.sessions = sessions
    app.add_middleware(PageMiddleware, uploads=sessions.folder)
    app.add_middleware(CORSMiddleware)  # no other site may read: left alone, Gradio lets all do that off loopback
    return gr.mount_gradio_app(app, build(desk), path="/", auth=settings.auth, root_path=settings.root_path or None,
                               show_error=False, max_file_size=UPLOAD, enable_monitoring=False, ssr_mode=False,
                               footer_links=[], mcp_server=False, pwa=False, theme=theme(), head=head())  # fmt: skip


def run_page(engines: Engines, settings: PageSettings, host: str, port: int, on_ready=print) -> None:
    app = page_app(engines, settings)
    try:
        serve.run(app, engines, host, port, settings.root_path, on_ready)
    finally:
        app.state.sessions.close()


def parse_auth(text: str | None) -> tuple[str, str] | None:
    """`user:password` of the command line."""
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UsageError("--auth takes user:password, both not empty")
    return user, password
