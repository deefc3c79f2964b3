"""`emoreason chat` and `emoreason serve`: one loaded model for people and for programs."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emoreason.apps.cli.options import Detector, Device, ExplainerModel, ExplainerName, Point, Quantize, Threshold, note
from emoreason.core.errors import UsageError
from emoreason.core.malloc import share_arenas

if TYPE_CHECKING:
    from emoreason.reasoner import Reasoner

Models = Annotated[
    list[str],
    typer.Option("--model", "-m", help="mini, a folder with a model, or an open_clip name; several may be given."),
]
Host = Annotated[str, typer.Option("--host", help="127.0.0.1: this machine only; 0.0.0.0: everybody.")]
MINI = ["mini"]
Auth = Annotated[
    str | None,
    typer.Option("--auth", envvar="EMOREASON_AUTH", help="user:password that the page asks for.", show_envvar=True),
]
RootPath = Annotated[str, typer.Option("--root-path", help="The path under which a proxy shows it, such as /faces.")]
FeedbackFolder = Annotated[
    Path | None, typer.Option("--feedback", help="Where feedback goes that users choose to give. Default: user data.")
]


def chat(
    model: Models = MINI,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 7860,
    auth: Auth = None,
    root_path: RootPath = "",
    feedback: FeedbackFolder = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
    device: Device = "auto",
    detector: Detector = "auto",
    operating_point: Point = "accurate",
    threshold: Threshold = None,
    explainer: ExplainerName = "auto",
    explainer_model: ExplainerModel = "",
    quantize: Quantize = None,
) -> None:
    """The chat page: drop a picture, see the answer and its evidence, ask why. The same as `python app.py`."""
    from emoreason.apps.ui.launch import PageSettings, parse_auth, run_page
    from emoreason.engine import Engines

    share_arenas()
    settings = PageSettings(parse_auth(auth), _path(root_path), feedback)
    engines = Engines(loaders(model, device_name=device, detector=detector, point=operating_point, threshold=threshold,
                              explainer=explainer, explainer_model=explainer_model, quantize=quantize))  # fmt: skip
    _warn(host, auth is not None)

    def ready(address: str) -> None:
        note(f"emoreason is at {address}{settings.root_path} (Ctrl-C ends it)")
        if open_browser:
            typer.launch(address)

    run_page(engines, settings, host, port, ready)


def serve(
    model: Models = MINI,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="EMOREASON_API_KEY", help="Clients have to send it.", show_envvar=True),
    ] = None,
    ui: Annotated[bool, typer.Option("--ui", help="The chat page as well, at the root.")] = False,
    auth: Auth = None,
    root_path: RootPath = "",
    feedback: FeedbackFolder = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Pictures may be http(s) addresses; private ones stay refused.")
    ] = False,
    max_request_mb: Annotated[int, typer.Option("--max-request-mb", min=1, help="Largest request.")] = 20,
    together: Annotated[int, typer.Option("--together", min=1, help="Texts that are written side by side.")] = 8,
    device: Device = "auto",
    detector: Detector = "auto",
    operating_point: Point = "accurate",
    threshold: Threshold = None,
    explainer: ExplainerName = "auto",
    explainer_model: ExplainerModel = "",
    quantize: Quantize = None,
) -> None:
    """The HTTP API: OpenAI's /v1/chat/completions, and /v1/emotions with typed answers. See docs/api.md."""
    from emoreason.apps.api import server as server
    from emoreason.apps.api.app import ApiSettings, create_app
    from emoreason.apps.api.metrics import Metrics
    from emoreason.apps.ui.launch import PageSettings, parse_auth, with_page
    from emoreason.engine import Engines

    if auth is not None and not ui:
        raise UsageError("--auth is asked by the page: add --ui, or protect the API with --api-key")
    share_arenas()
    account, metrics, root = parse_auth(auth), Metrics(), _path(root_path)
    engines = Engines(
        loaders(model, device_name=device, detector=detector, point=operating_point, threshold=threshold,
                explainer=explainer, explainer_model=explainer_model, quantize=quantize),
        together=together, on_batch=metrics.batch,
    )  # fmt: skip
    app = create_app(engines, ApiSettings(api_key, allow_urls, max_request_mb, root_path=root), metrics)
    if ui:
        app = with_page(app, engines, PageSettings(account, root, feedback))
    _warn(host, api_key is not None and (account is not None or not ui))
    try:
        server.run(app, engines, host, port, root, lambda address: note(f"serving {address}/v1 (Ctrl-C ends it)"))
    finally:
        if ui:
            app.state.sessions.close()


def loaders(names: list[str], **options: object) -> "Mapping[str, Callable[[], Reasoner]]":
    """How each model is loaded, by the name that users see: of a folder its last part, for where it lies is nobody's
    business. Nothing is loaded here."""
    from emoreason.models.bundle import find_bundle
    from emoreason.reasoner import load

    for name in names:  # a mistyped name is told before a page opens
        if "/" not in name and find_bundle(name) is None:
            expected = "mini, an added model, a folder with model.json, or a name such as ViT-L-14/openai"
            raise UsageError(f"no model {name!r}: {expected} was expected")
    shown = {name: Path(name).resolve().name if Path(name).is_dir() else name for name in names}
    twice = [name for name in names if list(shown.values()).count(shown[name]) > 1]
    if twice:
        raise UsageError(
            f"{' and '.join(twice)} would bear one name: emoreason models add FOLDER --name NAME gives another"
        )
    return {shown[name]: partial(load, name, **options) for name in names}  # type: ignore[arg-type]


def _path(root_path: str) -> str:
    if root_path and not root_path.startswith("/"):
        raise UsageError(f"--root-path {root_path}: a path such as /faces was expected")
    return root_path.rstrip("/")


def _warn(host: str, guarded: bool) -> None:
    if host not in ("127.0.0.1", "localhost", "::1") and not guarded:
        note(f"anyone who reaches {host} can use it: think of --auth, --api-key and a proxy with https")
