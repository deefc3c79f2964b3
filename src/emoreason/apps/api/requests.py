"""Request bodies. Unknown fields are ignored, because the official OpenAI clients send many."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from emoreason.core.errors import EmoreasonError
from emoreason.explain.explanation import Style
from emoreason.knowledge.emotions import LABEL_SETS, label_set

MAX_LABELS = 100
MAX_TEXT = 4000  # characters per message; a question is a sentence or two
Name = Annotated[str, Field(max_length=300)]


class AnalysisOptions(BaseModel):
    """How to read the pictures: the fields that all requests share."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[Name | None, Field(description="A model from `/v1/models`. Default: the first one.")] = None
    labels: Annotated[
        list[Annotated[str, Field(max_length=100)]] | None,
        Field(description="Your own labels to choose from, at least two.", max_length=MAX_LABELS),
    ] = None
    label_set: Annotated[Name | None, Field(description=f"A named set instead: {', '.join(LABEL_SETS)}.")] = None
    detect: Annotated[bool, Field(description="Find the faces first. False: all pictures are face crops.")] = True
    decide: Annotated[
        Literal["evidence", "reasoned", "both"],
        Field(description="Who decides the label: the evidence, the language model, or the product of both."),
    ] = "evidence"
    brief: Annotated[bool, Field(description="Write short explanations of two movements.")] = False

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, labels: list[str] | None) -> list[str] | None:
        cleaned = [label.strip() for label in labels] if labels is not None else None
        if cleaned is not None and (len(cleaned) < 2 or not all(cleaned) or len(set(cleaned)) < len(cleaned)):
            raise ValueError('expected at least two different words, such as ["bored", "engaged"]')
        return cleaned

    @field_validator("label_set")
    @classmethod
    def _check_label_set(cls, name: str | None) -> str | None:
        try:
            return label_set(name).name if name is not None else None
        except EmoreasonError as error:
            raise ValueError(f"{name!r} is not one of {', '.join(LABEL_SETS)}") from error

    @model_validator(mode="after")
    def _check_one_set(self) -> "AnalysisOptions":
        if self.labels is not None and self.label_set is not None:
            raise ValueError("use either labels or label_set, not both")
        return self

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """The labels to choose from, or None for the model's own."""
        if self.label_set is not None:
            return label_set(self.label_set).labels
        return tuple(self.labels) if self.labels is not None else None


# ---- chat completions ------------------------------------------------------------------------------------------------


def _from_string(name: str) -> BeforeValidator:
    """Accepts a plain string for an object, as the value of its field `name`."""
    return BeforeValidator(lambda value: {name: value} if isinstance(value, str) else value)


class ImageUrl(BaseModel):
    url: Annotated[str, Field(description="`data:image/jpeg;base64,…`; an http(s) URL if the server allows it.")]


class MessagePart(BaseModel):
    type: Literal["text", "image_url"]
    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    image_url: Annotated[ImageUrl | None, _from_string("url")] = None

    @model_validator(mode="after")
    def _check_content(self) -> "MessagePart":
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} needs the field {self.type}")
        return self


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class UserMessage(BaseModel):
    role: Literal["user"]
    content: Annotated[list[MessagePart], BeforeValidator(_as_parts, json_schema_input_type=str | list[MessagePart])]


class OtherMessage(BaseModel):
    """Any other message. Only assistant messages matter; system messages are accepted but ignored."""

    role: Literal["assistant", "system", "developer", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(str(part.get("text") or "") for part in self.content or ())


Message = Annotated[UserMessage | OtherMessage, Field(discriminator="role")]


class StreamOptions(BaseModel):
    include_usage: bool = False


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[str, Field(min_length=1, max_length=200)]


class ChatRequest(AnalysisOptions):
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: Annotated[
        list[Stop] | None,
        Field(max_length=4, description="The answer ends before the first of these strings."),
        BeforeValidator(_as_list, json_schema_input_type=str | list[Stop] | None),
    ] = None
    max_tokens: Annotated[int | None, Field(ge=1, description="Older name of max_completion_tokens.")] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[
        float | None,
        Field(ge=0, le=2, description="Higher values vary the wording more. The content always follows the evidence."),
    ] = None
    seed: Annotated[
        int | None, Field(ge=-(2**63), lt=2**63, description="Changes the wording; the same seed gives the same text.")
    ] = None
    n: Annotated[Literal[1] | None, Field(description="There is always one answer.")] = None

    @field_validator("messages")
    @classmethod
    def _check_last(cls, messages: list[Any]) -> list[Any]:
        if messages[-1].role != "user":
            raise ValueError("the last message must be from the user")
        return messages

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def style(self) -> Style:
        return Style(self.temperature, self.seed or 0, self.brief)


# ---- emotions --------------------------------------------------------------------------------------------------------


class Image(BaseModel):
    data: Annotated[str, Field(description="`data:image/jpeg;base64,…`; an http(s) URL if the server allows it.")]
    name: Annotated[Name | None, Field(description="Name of the picture in the response.")] = None


class EmotionsOptions(AnalysisOptions):
    explain: Annotated[bool, Field(description="Also write explanations. Takes about a second per face.")] = False

    @model_validator(mode="after")
    def _check_decide(self) -> "EmotionsOptions":
        if self.decide != "evidence" and not self.explain:
            raise ValueError(f'decide "{self.decide}" needs the language model: add "explain": true')
        return self

    @property
    def style(self) -> Style:
        return Style(brief=self.brief)


class EmotionsRequest(EmotionsOptions):
    images: Annotated[
        list[Annotated[Image, BeforeValidator(_from_string("data").func, json_schema_input_type=str | Image)]],
        Field(min_length=1, description="Pictures, as strings or as objects with a name."),
    ]


def split_labels(fields: list[str] | None) -> list[str] | None:
    """The labels of a form: one field per label, or one field with commas."""
    if not fields:
        return None
    return re.split(r"\s*,\s*", fields[0].strip()) if len(fields) == 1 else fields
