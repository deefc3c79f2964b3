"""What the page's server refuses, told to it without a browser: files, addresses, strangers, foreign sites."""

import base64
import json
import os
import re
import secrets
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import httpx
import pytest

from browser import ASTRONAUT, ROOT, end, start, wait_for

# Runs at the start of every Python: connections and names of other machines are written down and refused.
WATCH = """
import os, socket
def watched(real):
    def call(*given, **options):
        place = next((one[0] if isinstance(one, tuple) else one for one in given if isinstance(one, (tuple, str))), "")
        if str(place) not in ("", "localhost", "127.0.0.1", "0.0.0.0", "::1", "::", "None"):
            with open(os.environ["WATCHED"], "a") as file:
                print(real.__name__, given, file=file)
            raise OSError("no way out")
        return real(*given, **options)
    return call
socket.getaddrinfo = watched(socket.getaddrinfo)
class Watched(socket.socket):
    def connect(self, place):
        return watched(super().connect)(place)
    def connect_ex(self, place):
        return watched(super().connect_ex)(place)
socket.socket = Watched
"""
# What a user of other Gradio programs may have set.
GRADIO = {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_ROOT_PATH": "/elsewhere", "GRADIO_SHARE": "True",
          "GRADIO_TEMP_DIR": "/none", "GRADIO_ANALYTICS_ENABLED": "True", "GRADIO_SERVER_PORT": "1",
          "GRADIO_MCP_SERVER": "True"}  # fmt: skip


class Visitor:
    """A tab without a browser: speaks as the page's script does."""

    def __init__(self, address: str):
        self.client, self.hash = httpx.Client(base_url=address, timeout=120), secrets.token_hex(6)
        self.config = self.client.get("/config").json()
        self.values = {each["id"]: each["props"].get("value") for each in self.config["components"]}
        self.heart = self.client.send(
            self.client.build_request("GET", f"/gradio_api/heartbeat/{self.hash}"), stream=True
        )

    def upload(self, content: bytes, name: str = "face.jpg") -> str:
        return self.client.post("/gradio_api/upload", files={"files": (name, content)}).raise_for_status().json()[0]

    def event(self, name: str, *first, session: str = "") -> tuple[int, list[dict]]:
        """Status of joining the queue, and all that comes of it."""
        found = next(each for each in self.config["dependencies"] if each["api_name"] == name)
        data = [*first, *(self.values[id] for id in found["inputs"][len(first) :])]
        payload = {"data": data, "fn_index": found["id"], "session_hash": session or self.hash}
        answer = self.client.post("/gradio_api/queue/join", json=payload)
        if answer.status_code != 200:
            return answer.status_code, []
        return 200, self.stream(session or self.hash)

    def stream(self, session: str) -> list[dict]:
        came = []
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    came.append(json.loads(line[5:]))
                    if came[-1]["msg"] == "close_stream":
                        break
        return came

    def send(self, text: str = "", *paths: str) -> tuple[int, list[dict]]:
        return self.event("send", {"text": text, "files": [file(path) for path in paths]})


def file(path: str) -> dict:
    return {"path": path, "orig_name": "face.jpg", "meta": {"_type": "gradio.FileData"}}


def kept(came: list[dict]) -> str:
    """The exported conversation; empty where there is none."""
    done = next(each for each in came if each["msg"] == "process_completed")
    found = done["output"]["data"][0]
    return base64.b64decode(found[2]).decode() if found else ""


@contextmanager
def serving(folder, *options: str):
    running, process = start(folder, *options)
    try:
        yield running
    finally:
        end(process)
    assert process.returncode == 0, running.log.read_text()
    assert not list(running.temp.glob("emoreason-*"))  # nothing stays when the server ends


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("safety")
    (folder / "sitecustomize.py").write_text(WATCH)
    (folder / "watched").touch()
    with pytest.MonkeyPatch.context() as patch:
        paths = os.pathsep.join([str(folder), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
        for name, value in (GRADIO | {"PYTHONPATH": paths, "WATCHED": str(folder / "watched")}).items():
            patch.setenv(name, value)
        (folder / "page").mkdir()
        with serving(folder / "page") as running:
            yield running
    assert (folder / "watched").read_text() == ""  # start, use and end without a look at the outside


@pytest.fixture
def visitor(site):
    made = Visitor(site.address)
    yield made
    made.heart.close()
    made.client.close()


@pytest.fixture
def canary():
    """A server that must not be asked for anything."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_files_of_the_machine_are_not_given(site, visitor):
    uploaded = visitor.upload(b"mine", "mine.jpg")
    assert visitor.client.get(f"/gradio_api/file={uploaded}").content == b"mine"
    secret = site.home / "data" / "emoreason" / "feedback.jsonl"
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text("secret")
    up = os.path.dirname(uploaded)
    for path in ("/etc/passwd", ROOT / "README.md", secret, site.log, f"{up}/../../../log", "README.md",
                 "../README.md", "/proc/self/environ", "//etc/passwd", f"{up}/%2e%2e/%2e%2e/%2e%2e/log"):  # fmt: skip
        for route in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"):
            for shown in (str(path), quote(str(path), safe="")):
                answer = visitor.client.get(route + shown)
                assert answer.status_code in (403, 404) or b"<!doctype html" in answer.content.lower(), (route, shown)
                assert b"root:" not in answer.content and b"secret" not in answer.content, (route, shown)


def test_routes_that_the_page_does_not_need_are_closed(visitor):
    for route in ("deep_link?session_hash=x", "component_server", "dev/reload", "proxy=http://127.0.0.1:1/",
                  "vibe-edit", "run-history/records", "call/send", "api/send", "process_recording", "profiling/traces",
                  "runs", "/proxy=http://127.0.0.1:1/", "monitoring", "file/etc/passwd"):  # fmt: skip
        for method in ("GET", "POST"):
            assert visitor.client.request(method, f"/gradio_api/{route}").status_code == 404, route
    assert visitor.client.get("/monitoring").status_code in (403, 404)


def test_what_was_not_uploaded_is_neither_read_nor_fetched(site, visitor, canary):
    address, asked = canary
    inside = f"{next(site.temp.glob('emoreason-*'))}/none/face.jpg"
    own = site.home / "own.jpg"
    own.write_bytes(ASTRONAUT.read_bytes())
    for path in ("/etc/passwd", str(own), f"http://{address}/a.jpg", "file:///etc/passwd", "http://example.com/a.jpg",
                 f"HTTP://{address}/a.jpg", f"//{address}/a.jpg", "data:image/png;base64,iVBORw0KGgo=",
                 f"{inside}/../../../../home/own.jpg", inside):  # fmt: skip
        messages = {"send": {"text": "", "files": [file(path)]}, "snapshot": file(path), "run": [file(path)]}
        for event, first in messages.items():
            _, came = visitor.event(event, first)
            said = json.dumps([each for each in came if each["msg"] != "process_starts"])
            assert "Key observations" not in said and "root:" not in said, (event, path)
            assert not any("er-sent" in json.dumps(each) for each in came), (event, path)
        visitor.event("send", {"text": "", "files": [file(path) | {"url": f"http://{address}/b.jpg"}]})
        assert visitor.client.get(f"/gradio_api/file={path}").status_code in (403, 404)
    assert not asked


def test_an_upload_that_is_too_large_is_refused(site, visitor):
    before = set(site.uploads())

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
        for _ in range(201):
            yield b"0" * 2**20
        yield b"\r\n--x--\r\n"

    answer = visitor.client.post("/gradio_api/upload", content=endless(),
                                 headers={"Content-Type": "multipart/form-data; boundary=x"})  # fmt: skip
    assert answer.status_code == 413
    wait_for(lambda: set(site.uploads()) == before)


def test_an_event_that_is_too_large_is_refused(visitor):
    assert visitor.event("send", {"text": "x" * 2**21, "files": []})[0] == 413


def test_a_session_never_sees_anothers(site, visitor):
    other = Visitor(site.address)
    assert visitor.send("", visitor.upload(ASTRONAUT.read_bytes()))[0] == 200
    assert "face.jpg" in kept(visitor.event("download_1")[1])  # it has something to be seen
    for event in ("download", "download_1", "download_2", "retry", "undo"):
        came = other.event(event)[1]
        assert "face.jpg" not in (kept(came) if event.startswith("download") else json.dumps(came)), event
    assert "picture of a face first" in json.dumps(other.send("Why?")[1])
    other.event("clear")
    assert "face.jpg" in kept(visitor.event("download_1")[1])  # what the other takes away is its own
    for made in (visitor, other):
        made.heart.close()
    wait_for(lambda: not site.uploads("face.jpg"), 20)


def test_other_sites_may_not_read(visitor):
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        for host in (None, "faces.example", "192.168.1.5:7860"):
            headers = {"Origin": origin} | ({"Host": host} if host else {})
            asks = headers | {"Access-Control-Request-Method": "POST"}
            get, options = visitor.client.get, visitor.client.options
            for answer in (get("/config", headers=headers), options("/gradio_api/upload", headers=asks)):
                assert "access-control-allow-origin" not in answer.headers, (origin, host)


def test_with_a_password_everything_is_behind_it(tmp_path):
    """And under another path: the page finds its own parts there."""
    with serving(tmp_path, "--auth", "ada:lovelace", "--root-path", "/faces") as running:
        client = httpx.Client(base_url=running.address.removesuffix("/faces"), timeout=60)
        first = client.get("/")
        assert "er-chat" not in first.text and "auth_required" in first.text
        payload = {"data": [], "fn_index": 0, "session_hash": "x"}
        answers = {
            "config": client.get("/config"),
            "info": client.get("/gradio_api/info"),
            "upload": client.post("/gradio_api/upload", files={"files": ("a.jpg", b"a")}),
            "join": client.post("/gradio_api/queue/join", json=payload),
            "data": client.get("/gradio_api/queue/data?session_hash=x"),
            "run": client.post("/gradio_api/run/send", json=payload),
            "file": client.get(f"/gradio_api/file={ROOT}/examples/astronaut.jpg"),
        }
        assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 401)
        assert not running.uploads()
        assert client.post("/login", data={"username": "ada", "password": "byron"}).status_code == 400
        answer = client.post("/login", data={"username": "ada", "password": "lovelace"})
        assert answer.status_code == 200
        for cookie in answer.cookies.jar:
            cookie.secure = False  # loopback has no https
            client.cookies.jar.set_cookie(cookie)
        page = client.get("/")
        assert "er-chat" in page.text
        assert client.get("/config").json()["root"].endswith("/faces")
        parts = re.findall(r'(?:src|href)="([^"]+\.(?:js|css))"', page.text)
        assert parts
        for part in parts:
            assert part.startswith(("./", "/faces/", "http")), part
            if not part.startswith("http"):
                assert client.get("/" + part.removeprefix("./").removeprefix("/faces/")).status_code == 200, part
