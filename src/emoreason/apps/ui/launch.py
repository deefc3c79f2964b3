"""Starts the page, on its own server or together with the API."""

import os
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from emoreason.apps.api import server
from emoreason.apps.api.app import ApiSettings
from emoreason.apps.api.metrics import Metrics
from emoreason.apps.api.service import Service
from emoreason.core.errors import UsageError
from emoreason.engine import Engines

MAX_UPLOAD = "200mb"  # per file, such as a zip of pictures; single pictures have their own limits


@dataclass(frozen=True)
class PageSettings:
    auth: tuple[str, str] | None = None
    root_path: str = ""
    feedback: Path | None = None  # None: the user's data folder


def page_app(engines: Engines, settings: PageSettings) -> FastAPI:
    """The app of the page alone."""
    _ = engines[engines.default]  # starts loading the model while Gradio is imported
    app = FastAPI(openapi_url=None)
    app.state.service = Service(engines, ApiSettings(root_path=settings.root_path), Metrics())
    return with_page(app, engines, settings)


def with_page(app: FastAPI, engines: Engines, settings: PageSettings) -> FastAPI:
    """Mounts the page at the root of an app. The app's own routes take precedence."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]  # they could publish the page, expose folders or change its address
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # must be set before Gradio is imported
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1000"  # more events than ever wait and run at once
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = (
        "1000000000"  # otherwise Gradio tabulates all events after each one
    )
    from emoreason.apps.ui.sessions import Sessions

    sessions = Sessions()
    os.environ["GRADIO_TEMP_DIR"] = str(sessions.folder)
    import gradio as gr
    from starlette.middleware.cors import CORSMiddleware

    from emoreason.apps.ui.feedback import Feedback
    from emoreason.apps.ui.handlers import Handlers
    from emoreason.apps.ui.middleware import PageMiddleware
    from emoreason.apps.ui.page import build, head, theme

    handlers = Handlers(engines, sessions, Feedback(settings.feedback) if settings.feedback else Feedback())
    app.state.sessions = sessions
    app.add_middleware(PageMiddleware, uploads=sessions.folder)
    app.add_middleware(CORSMiddleware)  # blocks other sites; by default, Gradio lets them read unless on loopback
    return gr.mount_gradio_app(app, build(handlers), path="/", auth=settings.auth, root_path=settings.root_path or None,
                               show_error=False, max_file_size=MAX_UPLOAD, enable_monitoring=False, ssr_mode=False,
                               footer_links=[], mcp_server=False, pwa=False, theme=theme(), head=head())  # fmt: skip


def run_page(engines: Engines, settings: PageSettings, host: str, port: int, on_ready=print) -> None:
    app = page_app(engines, settings)
    try:
        server.run(app, engines, host, port, settings.root_path, on_ready)
    finally:
        app.state.sessions.close()


def parse_auth(text: str | None) -> tuple[str, str] | None:
    """Splits `user:password`."""
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise UsageError("--auth: expected user:password, with neither part empty")
    return user, password
