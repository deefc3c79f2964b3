"""`finetune --data hub:OWNER/NAME`: a data set of the Hub, of which a part stands here on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from drawn_faces import MOUTHS, drawn, png

pytest.importorskip("datasets")
REPO, REVISION = "somebody/faces", "b" * 40


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"image": {"bytes": png(drawn(mouth, 100 * k + i)), "path": f"{label}{i}.png"}, "label": label,
         "AU12": 4.0 if mouth == "up" else float(i % 2)}
        for k, (label, mouth) in enumerate(MOUTHS.items()) for i in range(24)
    ]  # fmt: skip
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


class Handler(BaseHTTPRequestHandler):
    """What `datasets` asks for: the repository, the folders of its tree, its files."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]

    def log_message(self, *_) -> None:
        pass

    def answer(self, content: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if re.fullmatch(rf"/api/datasets/{REPO}(/revision/.+)?", path):
            told = {"id": REPO, "sha": REVISION, "siblings": [{"rfilename": name} for name in self.files]}
            return self.answer(json.dumps(told).encode())
        if found := re.fullmatch(rf"/api/datasets/{REPO}/tree/[^/]+(/.*)?", path):
            return self.answer(json.dumps(self.entries((found[1] or "").strip("/"))).encode())
        found = re.fullmatch(rf"/datasets/{REPO}/resolve/[^/]+/(.+)", path)
        if found and (content := self.files.get(found[1])) is not None:
            return self.answer(content, X_Repo_Commit=REVISION, ETag=f'"{hashlib.sha256(content).hexdigest()}"')
        return self.answer(b'{"error": "not found"}', 404, X_Error_Code="EntryNotFound")

    def entries(self, folder: str) -> list[dict]:
        inside = f"{folder}/" if folder else ""
        found = {}
        for name, content in self.files.items():
            if name.startswith(inside):
                here, *below = name[len(inside) :].split("/")
                oid = hashlib.sha1(content).hexdigest()
                kind = {"type": "directory", "size": 0} if below else {"type": "file", "size": len(content)}
                found[here] = {"path": inside + here, "oid": oid, **kind}
        return list(found.values())


@pytest.fixture
def hub() -> Iterator[str]:
    Handler.files = {"README.md": b"# Faces\n", "data/train-00000-of-00001.parquet": parquet()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def finetune(hub: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads its address when it is imported."""
    clean = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE" and not k.lower().endswith("_proxy")}
    asked = [sys.executable, "-m", "emoreason", "finetune", *arguments]
    return subprocess.run(
        asked, env={**clean, "HF_ENDPOINT": hub, "HF_HOME": str(home)}, capture_output=True, text=True
    )


def test_a_data_set_of_the_hub(hub, tmp_path):
    out = tmp_path / "mine"
    done = finetune(hub, tmp_path / "home", "--data", f"hub:{REPO}", "--labels", ",".join(MOUTHS), "--no-detect",
                    "--train.epochs", "20", "--data.holdout", "0.3", "--out", str(out))  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["data"] == f"hub:{REPO}"
    assert {label: sum(part[label] for part in metrics["counts"].values()) for label in MOUTHS} == dict.fromkeys(
        MOUTHS, 24
    )
    assert metrics["measures"]["action_units"]["12"]["graded"] and (out / "measures.safetensors").is_file()


def test_one_that_is_not_there_is_told(hub, tmp_path):
    done = finetune(hub, tmp_path / "home", "--data", "hub:somebody/nothing", "--out", str(tmp_path / "mine"))
    assert done.returncode == 1 and "somebody/nothing" in done.stderr and "Traceback" not in done.stderr
