"""Runs the command line as `python -m emoreason`, also under launchers such as `accelerate launch -m emoreason`."""

import sys

from emoreason.apps.cli.main import execute

if __name__ == "__main__":
    sys.exit(execute())
