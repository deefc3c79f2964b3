"""The command line without the seconds that imports take: a process that imported everything forks for each command.

    python tests/fork_server.py SOCKET

`command(socket)` is what to run instead of `emoreason`. It hands its arguments, folder, environment and streams to the
server and ends as the forked command ends. Signals are passed on, and a command whose caller is killed is killed.
Tests of starting, of imports and of packaging use real processes.
"""

import json
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def call(path: str, arguments: list[str]) -> int:
    """The caller's side: needs nothing but the standard library, so that it starts in milliseconds."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(request)
        for number in FORWARDED:
            signal.signal(number, lambda number, frame: connection.sendall(bytes([number])))
        code = connection.recv(1)
    return code[0] if code else 1


def serve(path: str) -> None:
    preload()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(16)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:  # closed: the tests have ended
                return
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                handle(connection)
            connection.close()


def preload() -> None:
    """Import what commands need. Nothing may be computed here: threads do not survive a fork."""
    import cv2  # noqa: F401
    import datasets  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import open_clip  # noqa: F401
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import transformers  # noqa: F401

    import emoreason.apps.cli.main
    import emoreason.explain.backends.local
    import emoreason.train.finetune  # noqa: F401


def handle(connection: socket.socket) -> None:
    """Fork the command, pass signals on, send its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    wanted, request = int.from_bytes(size, "big"), b""
    while len(request) < wanted:
        request += connection.recv(wanted - len(request))
    child = os.fork()
    if child == 0:
        connection.close()
        run(json.loads(request), streams)
    ended = os.pidfd_open(child)
    while True:
        ready, _, _ = select.select([ended, connection], [], [])
        if ended in ready:
            _, status = os.waitpid(child, 0)
            connection.sendall(bytes([os.waitstatus_to_exitcode(status) % 256]))
            os._exit(0)
        message = connection.recv(1)
        os.kill(child, message[0] if message else signal.SIGKILL)
        if not message:
            os._exit(0)


def run(request: dict, streams: list[int]) -> None:
    for number in FORWARDED:
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.stdin, sys.stdout, sys.stderr = (open(fd, mode, closefd=False) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    sys.argv = ["emoreason", *request["arguments"]]
    from emoreason.apps.cli.main import execute

    code = 1
    try:
        code = execute(request["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def command(path: str) -> list[str]:
    return [sys.executable, "-S", "-E", str(Path(__file__).resolve()), path, "--"]


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(call(sys.argv[1], sys.argv[3:]))
    serve(sys.argv[1])
