"""A server that runs for weeks: what a closed tab leaves, and what its threads keep of freed memory."""

import gc
import os
import secrets
import socket
import subprocess
import sys
import threading
import weakref
from functools import partial
from importlib import import_module
from inspect import signature
from pkgutil import walk_packages

import pytest
import uvicorn

from api_server import wait_for
from browser import ASTRONAUT
from emoreason import explain, load
from emoreason.apps.ui.launch import PageSettings, page_app
from emoreason.engine import Engines
from test_page_safety import Visitor, file

TABS = 4


@pytest.fixture(scope="module")
def page():
    """(address, Gradio's page, the server's tabs) of a server in this process. It has no words: numbers are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())  # Gradio is told by it
        engines = Engines({"mini": partial(load, "mini", device_name="cpu", explainer="none")})
        app = page_app(engines, PageSettings())
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        mounted = next(route.app for route in app.routes if hasattr(getattr(route, "app", None), "get_blocks"))
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", mounted.get_blocks(), app.state.sessions
        server.should_exit = True
        thread.join(10)
        listening.close()
        engines.close()
        app.state.sessions.close()


def leave(visitor: Visitor) -> None:
    visitor.heart.close()
    visitor.client.close()


def kept(page) -> dict[str, int]:
    """What Gradio keeps of sessions, and of what they sent."""
    queue = page._queue
    tables = {"sessions": page.state_holder.session_data, "times": page.state_holder.time_last_used,
              "messages": queue.pending_messages_per_session, "pending": queue.pending_event_ids_session,
              "events": queue.event_ids_to_events, "changes": page.pending_diff_streams,
              "uploads": page.upload_file_set}  # fmt: skip
    return {name: len(table) for name, table in tables.items()}


def test_closed_tabs_leave_nothing(page):
    address, blocks, sessions = page
    visitors, pictures = [Visitor(address) for _ in range(TABS)], []
    for visitor in visitors:
        content = ASTRONAUT.read_bytes() + secrets.token_bytes(8)  # each its own file
        assert visitor.send("", visitor.upload(content))[0] == 200
        conversation = sessions.tab(visitor.hash).conversation
        pictures.append(weakref.ref(conversation.faces()[0][1].picture.image))
    del conversation
    assert kept(blocks)["sessions"] == kept(blocks)["messages"] == len(sessions) == TABS
    hasty = visitors[0]  # goes without having fetched the answer
    join = next(each for each in hasty.config["dependencies"] if each["api_name"] == "send")
    data = [{"text": "Why?", "files": [file(hasty.upload(b"no picture"))]}, *map(hasty.values.get, join["inputs"][1:])]
    event = {"data": data, "fn_index": join["id"], "session_hash": hasty.hash}
    assert hasty.client.post("/gradio_api/queue/join", json=event).status_code == 200
    for visitor in visitors:
        leave(visitor)
    wait_for(lambda: not any(kept(blocks).values()) and len(sessions) == 0)
    gc.collect()
    assert not any(picture() for picture in pictures)


def test_sessions_that_nobody_closes_are_few(page):
    address, blocks, _ = page
    assert blocks.state_holder.capacity <= 100  # of each the last answer is kept, with its pictures


def test_events_are_not_counted_for_a_page_that_nobody_opens(page):
    """Gradio makes a table of up to 10,000 of them after each one."""
    address, blocks, _ = page
    visitor = Visitor(address)
    visitor.send("Why?")
    leave(visitor)
    assert blocks._queue.events_recorded and blocks._queue.cached_event_analytics_summary == {"functions": {}}


def test_what_is_remembered_by_a_users_words_has_an_end():
    modules = [import_module(found.name) for found in walk_packages(explain.__path__, "emoreason.explain.")]
    kept = {f"{module.__name__}.{name}": function for module in modules for name, function in vars(module).items()
            if hasattr(function, "cache_parameters")}  # fmt: skip
    told = {"label", "labels", "word", "blocked", "text", "question"}
    users = {name: function for name, function in kept.items() if told & set(signature(function).parameters)}
    assert len(users) >= 7
    assert [name for name, function in users.items() if function.cache_parameters()["maxsize"] is None] == []


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_threads_share_the_heaps():
    code = """
import ctypes, threading, time
from emoreason.core.malloc import share_arenas
share_arenas()
libc = ctypes.CDLL("libc.so.6")
threads = [threading.Thread(target=lambda: (ctypes.create_string_buffer(2000), time.sleep(0.5))) for _ in range(8)]
[thread.start() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info(0, ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w")))
libc.fflush(None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    if "<heap" not in done.stdout:
        pytest.skip("not glibc")
    assert done.stdout.count("<heap nr=") <= 2, done.stdout
