"""`python -m emoreason`: the command line where a launcher wants a module, as `accelerate launch -m emoreason` does."""

import sys

from emoreason.apps.cli.main import execute

if __name__ == "__main__":
    sys.exit(execute())
