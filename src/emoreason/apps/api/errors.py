"""Errors of the API, all in OpenAI's form: {"error": {"message", "type", "param", "code"}}."""

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

RETRY_AFTER = "2"  # seconds; an explanation takes about 1 s
ROLES = ("user", "assistant", "system", "developer", "tool", "function")  # pydantic adds the role to an error's path
CLIENT_GONE = 499  # only seen in the metrics

log = logging.getLogger("emoreason.api")


class ApiError(HTTPException):
    """An error as the client sees it."""

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
        # input quoted in the message may have lone surrogates, which UTF-8 cannot encode
        message = str(self.detail).encode("utf-8", "replace").decode("utf-8")
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.content, self.status_code, self.headers)


def as_api_error(error: BaseException) -> ApiError:
    """The error to send for an exception. Unexpected ones are logged under a number that the client sees too."""
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
            return ApiError(CLIENT_GONE, "The client disconnected before the answer was ready.", code="stopped")
        case EmoreasonError():
            return ApiError(400, str(error))
    number = secrets.token_hex(4)
    log.error("error %s", number, exc_info=error)
    return ApiError(500, f"Something went wrong. The server logged it as {number}.", code="internal_error")


def _sentence(error: PlainHTTPException) -> str:
    match error.status_code:
        case 404:
            return "There is nothing at this address. See GET /docs for all addresses."
        case 405:
            return "This address does not support that method. See GET /docs for all methods."
        case 400:
            return f"{error.detail}. Send JSON in UTF-8, or a form if the address accepts files."
    return str(error.detail)


def _invalid(errors: Sequence[Any]) -> ApiError:
    """The most useful of several validation errors: the one deepest in the request."""
    if not errors:
        return ApiError(400, "The request does not match what this address expects. See GET /docs.")
    deepest = max(errors, key=lambda error: len(error["loc"]))
    if deepest["type"] == "json_invalid":
        reason = deepest.get("ctx", {}).get("error", "")
        return ApiError(
            400, f"The body is not valid JSON: {reason} (character {deepest['loc'][-1]}).", code="json_invalid"
        )
    keys = [key for key in deepest["loc"][1:] if key not in ROLES]
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
    message = re.sub(r"^Value error, ", "", deepest["msg"])
    hint = " Send a JSON object with the header Content-Type: application/json." if not path else ""
    return ApiError(400, f"{path or 'The body'}: {message}.{hint}", param=path or None, code=deepest["type"])


def add_handlers(app: FastAPI) -> None:
    async def respond(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    for kind in (PlainHTTPException, RequestValidationError, EmoreasonError):
        app.add_exception_handler(kind, respond)
