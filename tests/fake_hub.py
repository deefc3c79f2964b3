"""The part of the Hugging Face Hub's HTTP API that its own client uses to upload and to download, on loopback."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_tests"
REVISION = "a" * 40


class FakeHub:
    """Repositories in memory. What is not understood is kept in `unknown`, so that a test can say so."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.commits: list[dict] = []
        self.unknown: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FakeHub":
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, answer: object, code: int = 200, **headers: str) -> None:
        self._raw(json.dumps(answer).encode(), code, {"Content-Type": "application/json", **headers})

    def _raw(self, content: bytes, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, code: int, why: str) -> None:
        self._json({"error": why}, code, **{"X-Error-Message": why})

    def do_PUT(self) -> None:
        content = self._body()
        digest = self.path.rsplit("/", 1)[1]
        if hashlib.sha256(content).hexdigest() != digest:
            return self._refuse(400, "the content is not what was announced")
        self.hub.large[digest] = content
        return self._raw(b"", 200, {"ETag": f'"{digest}"'})

    def do_POST(self) -> None:
        body, path = self._body(), urlsplit(self.path).path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "Invalid username or password.")
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.hub.files.setdefault(repo, {})
            self.hub.private.setdefault(repo, asked.get("visibility") == "private" or bool(asked.get("private")))
            return self._json({"url": f"{self.hub.address}/{repo}", "name": repo, "id": repo})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular"}
                for file in files
            ]  # fmt: skip
            return self._json({"files": modes, "commitOid": REVISION})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {"oid": item["oid"], "size": item["size"],
                 "actions": {"upload": {"href": f"{self.hub.address}/lfs/{item['oid']}", "header": {}}}}
                for item in json.loads(body)["objects"]
            ]  # fmt: skip
            return self._json({"transfer": "basic", "objects": objects})
        if found := re.fullmatch(r"/api/models/(.+?/.+?)/commit/main", path):
            return self._commit(found[1], [json.loads(line) for line in body.splitlines()])
        self.hub.unknown.append(f"POST {self.path}")
        return self._refuse(404, "not found")

    def _commit(self, repo: str, lines: list[dict]) -> None:
        stored = self.hub.files[repo]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                stored[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                stored[value["path"]] = self.hub.large[value["oid"]]
            else:
                self.hub.commits.append(value)
        address = f"{self.hub.address}/{repo}/commit/{REVISION}"
        self._json({"success": True, "commitOid": REVISION, "commitUrl": address, "hookOutput": ""})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
            if found[1] not in self.hub.files:
                return self._refuse(404, "Repository not found")
            names = [{"rfilename": name} for name in self.hub.files[found[1]]]
            return self._json({"id": found[1], "sha": REVISION, "siblings": names, "private": False, "tags": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+", path):
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in self.hub.files.get(found[1], {}).items()
            ]
            return self._json(rows)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            content = self.hub.files.get(found[1], {}).get(found[2])
            if content is None:
                return self._refuse(404, "Entry not found")
            return self._raw(
                content, 200, {"X-Repo-Commit": REVISION, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            )
        self.hub.unknown.append(f"{self.command} {self.path}")
        return self._refuse(404, "not found")
