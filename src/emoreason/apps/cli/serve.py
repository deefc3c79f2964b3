"""`emoreason chat` starts the chat page, `emoreason serve` the HTTP API."""

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
    typer.Option("--model", "-m", help="mini, a model folder, or an open_clip name. Repeat it to offer several."),
]
Host = Annotated[
    str, typer.Option("--host", help="127.0.0.1 for this machine only, 0.0.0.0 for everyone on the network.")
]
MINI = ["mini"]
Auth = Annotated[
    str | None,
    typer.Option("--auth", envvar="EMOREASON_AUTH", help="Protect the page with user:password.", show_envvar=True),
]
RootPath = Annotated[str, typer.Option("--root-path", help="Path prefix behind a proxy, such as /faces.")]
FeedbackFolder = Annotated[
    Path | None,
    typer.Option("--feedback", help="Folder for feedback that users choose to give. Default: the user data folder."),
]


def chat(
    model: Models = MINI,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 picks a free port.")] = 7860,
    auth: Auth = None,
    root_path: RootPath = "",
    feedback: FeedbackFolder = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
    device: Device = "auto",
    detector: Detector = "auto",
    operating_point: Point = "",
    threshold: Threshold = None,
    explainer: ExplainerName = "auto",
    explainer_model: ExplainerModel = "",
    quantize: Quantize = None,
) -> None:
    """Start the chat page. Drop a picture, see the answer and its evidence, ask why. Same as `python app.py`."""
    from emoreason.apps.ui.launch import PageSettings, parse_auth, run_page
    from emoreason.engine import Engines

    share_arenas()
    settings = PageSettings(parse_auth(auth), _checked_root(root_path), feedback)
    engines = Engines(loaders(model, device_name=device, detector=detector, point=operating_point, threshold=threshold,
                              explainer=explainer, explainer_model=explainer_model, quantize=quantize))  # fmt: skip
    _warn_if_open(host, auth is not None)

    def ready(address: str) -> None:
        note(f"emoreason is running at {address}{settings.root_path} (stop it with Ctrl-C)")
        if open_browser:
            typer.launch(address)

    run_page(engines, settings, host, port, ready)


def serve(
    model: Models = MINI,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 picks a free port.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="EMOREASON_API_KEY", help="Key that clients have to send.", show_envvar=True),
    ] = None,
    ui: Annotated[bool, typer.Option("--ui", help="Also serve the chat page, at /.")] = False,
    auth: Auth = None,
    root_path: RootPath = "",
    feedback: FeedbackFolder = None,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Accept http(s) URLs of pictures. Private addresses stay blocked.")
    ] = False,
    max_request_mb: Annotated[int, typer.Option("--max-request-mb", min=1, help="Largest request, in MiB.")] = 20,
    together: Annotated[int, typer.Option("--together", min=1, help="Texts to generate at the same time.")] = 8,
    device: Device = "auto",
    detector: Detector = "auto",
    operating_point: Point = "",
    threshold: Threshold = None,
    explainer: ExplainerName = "auto",
    explainer_model: ExplainerModel = "",
    quantize: Quantize = None,
) -> None:
    """Start the HTTP API. Serves OpenAI's /v1/chat/completions, and /v1/emotions with typed answers: docs/api.md."""
    from emoreason.apps.api import server
    from emoreason.apps.api.app import ApiSettings, create_app
    from emoreason.apps.api.metrics import Metrics
    from emoreason.apps.ui.launch import PageSettings, parse_auth, with_page
    from emoreason.engine import Engines

    if auth is not None and not ui:
        raise UsageError("--auth protects the page: add --ui, or protect the API with --api-key")
    share_arenas()
    account, metrics, root = parse_auth(auth), Metrics(), _checked_root(root_path)
    engines = Engines(
        loaders(model, device_name=device, detector=detector, point=operating_point, threshold=threshold,
                explainer=explainer, explainer_model=explainer_model, quantize=quantize),
        together=together, on_batch=metrics.batch,
    )  # fmt: skip
    app = create_app(engines, ApiSettings(api_key, allow_urls, max_request_mb, root_path=root), metrics)
    if ui:
        app = with_page(app, engines, PageSettings(account, root, feedback))
    _warn_if_open(host, api_key is not None and (account is not None or not ui))
    try:
        server.run(app, engines, host, port, root, lambda address: note(f"serving {address}/v1 (stop it with Ctrl-C)"))
    finally:
        if ui:
            app.state.sessions.close()


def loaders(names: list[str], **options: object) -> "Mapping[str, Callable[[], Reasoner]]":
    """A function that loads each model, by the name users see. A folder shows as its last part only, to hide its path.

    Does not load anything yet."""
    from emoreason.models.bundle import find_bundle
    from emoreason.reasoner import load

    for name in names:  # report a mistyped name before the page opens
        if "/" not in name and find_bundle(name) is None:
            known = "mini, an added model, a folder with model.json, or a name such as ViT-L-14/openai"
            raise UsageError(f"no model {name!r}: expected {known}")
    names_shown = {name: Path(name).resolve().name if Path(name).is_dir() else name for name in names}
    same = [name for name in names if list(names_shown.values()).count(names_shown[name]) > 1]
    if same:
        raise UsageError(
            f"{' and '.join(same)} have the same name: rename one with emoreason models add FOLDER --name NAME"
        )
    return {names_shown[name]: partial(load, name, **options) for name in names}  # type: ignore[arg-type]


def _checked_root(root_path: str) -> str:
    if root_path and not root_path.startswith("/"):
        raise UsageError(f"--root-path {root_path}: expected a path such as /faces")
    return root_path.rstrip("/")


def _warn_if_open(host: str, guarded: bool) -> None:
    if host not in ("127.0.0.1", "localhost", "::1") and not guarded:
        note(f"anyone who can reach {host} can use it: consider --auth, --api-key and an https proxy")
