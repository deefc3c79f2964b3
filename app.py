"""Starts the chat page: `python app.py` takes the same options as `emoreason chat`."""

import sys

from emoreason.apps.cli.main import execute

if __name__ == "__main__":
    sys.exit(execute(["chat", *sys.argv[1:]]))
