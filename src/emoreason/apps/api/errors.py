"""Every failure of the API in one shape, OpenAI's: {"error": {"message", "type", "param", "code"}}."""

import logging
import re
import secrets
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as PlainHTTPException

from emoreason.core.errors import EmoreasonError
from emoreason.engine import Busy, Stopped

RETRY_AFTER = "2"  # seconds; an explanation takes about one
ROLES = (
    "user",
    "assistant",
    "system",
    "developer",
    "tool",
    "function",
)  # pydantic names the kind of a message in a path
CLIENT_GONE = 499  # nobody reads it; it stands in the metrics

log = logging.getLogger("emoreason.api")


class ApiError(HTTPException):
    """A failure with all that the client is told about it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(status, message, headers)
        self.param, self.code = param, code

    @property
    def content(self) -> dict[str, Any]:
        kind = "authentication_error" if self.status_code == 401 else "invalid_request_error"
        kind = "server_error" if self.status_code >= 500 else kind
        # what a client sent may hold characters that no encoding has
        message = str(self.detail).encode("utf-8", "replace").decode("utf-8")
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.content, self.status_code, self.headers)


def as_api_error(error: BaseException) -> ApiError:
    """Any exception as what the client may know of it. What nobody expected is logged under a number that both see."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _invalid(error.errors())
        case PlainHTTPException():
            headers = dict(error.headers) if error.headers else None
            return ApiError(error.status_code, _sentence(error), headers=headers)
        case Busy():
            return ApiError(503, str(error), code="busy", headers={"Retry-After": RETRY_AFTER})
        case Stopped():
            return ApiError(CLIENT_GONE, "The client went away before the answer was there.", code="stopped")
        case EmoreasonError():
            return ApiError(400, str(error))
    number = secrets.token_hex(4)
    log.error("error %s", number, exc_info=error)
    return ApiError(500, f"Something went wrong here, and it was logged as {number}.", code="internal_error")


def _sentence(error: PlainHTTPException) -> str:
    match error.status_code:
        case 404:
            return "There is nothing at this address. GET /docs lists what there is."
        case 405:
            return "This address does not take that method. GET /docs lists what there is."
        case 400:
            return f"{error.detail}. Send JSON in UTF-8, or a form where the address takes files."
    return str(error.detail)


def _invalid(errors: Sequence[Any]) -> ApiError:
    """Of several complaints the one that looked deepest is about what was meant."""
    if not errors:
        return ApiError(400, "The request does not fit what this address takes. GET /docs says what that is.")
    worst = max(errors, key=lambda found: len(found["loc"]))
    if worst["type"] == "json_invalid":
        reason = worst.get("ctx", {}).get("error", "")
        return ApiError(
            400, f"The body is not valid JSON: {reason} (character {worst['loc'][-1]}).", code="json_invalid"
        )
    path = [at for at in worst["loc"][1:] if at not in ROLES]
    place = "".join(f"[{at}]" if isinstance(at, int) else f".{at}" for at in path).lstrip(".")
    said = re.sub(r"^Value error, ", "", worst["msg"])
    hint = " Send a JSON object with the header Content-Type: application/json." if not place else ""
    return ApiError(400, f"{place or 'The body'}: {said}.{hint}", param=place or None, code=worst["type"])


def add_handlers(app: FastAPI) -> None:
    async def told(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    for kind in (PlainHTTPException, RequestValidationError, EmoreasonError):
        app.add_exception_handler(kind, told)
