"""The Hugging Face Hub: models come from it by --model hub:OWNER/NAME and go to it by `emoreason models push`."""

import os
from functools import cache
from pathlib import Path

from emoreason.errors import EmoreasonError
from emoreason.models.registry import PARTS, TOP

WANTED = [*TOP, "SHA256SUMS", *(f"{part}/**" for part in PARTS)]


@cache
def fetch(repo: str) -> Path:
    """The folder of a model on the Hub: downloaded once, kept in the Hub's own cache. Nothing in it is executed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=WANTED, endpoint=os.environ.get("HF_ENDPOINT")))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise EmoreasonError(f"hub:{repo} cannot be fetched: {reason}. OWNER/NAME of a model that "
                             "`emoreason models push` put there was expected") from None  # fmt: skip
