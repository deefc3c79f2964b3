"""What clients send. Fields beside these are ignored: the official clients send many."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from emoreason.core.errors import EmoreasonError
from emoreason.explain.explanation import Style
from emoreason.knowledge.emotions import LABEL_SETS, label_set

MAX_LABELS = 100
MAX_TEXT = 4000  # characters that a user writes at once; a question is a sentence or two
T = TypeVar("T")
Name = Annotated[str, Field(max_length=300)]


class AnalysisOptions(BaseModel):
    """How pictures are read: the fields that all requests have in common."""

    model_config = ConfigDict(extra="ignore")

    model: Annotated[Name | None, Field(description="One of `/v1/models`. The first of them if left out.")] = None
    labels: Annotated[
        list[Annotated[str, Field(max_length=100)]] | None,
        Field(description="Words of your own to choose among, two at least.", max_length=MAX_LABELS),
    ] = None
    label_set: Annotated[Name | None, Field(description=f"A known set instead: {', '.join(LABEL_SETS)}.")] = None
    detect: Annotated[bool, Field(description="Find the faces. False: every picture is a tight crop of a face.")] = True
    decide: Annotated[
        Literal["evidence", "reasoned", "both"],
        Field(description="Whose distribution is the answer: the evidence's, the language model's, or their product."),
    ] = "evidence"
    brief: Annotated[bool, Field(description="Short explanations of two movements.")] = False

    @field_validator("labels")
    @classmethod
    def _different(cls, labels: list[str] | None) -> list[str] | None:
        cleaned = [label.strip() for label in labels] if labels is not None else None
        if cleaned is not None and (len(cleaned) < 2 or not all(cleaned) or len(set(cleaned)) < len(cleaned)):
            raise ValueError('at least two different words are expected, such as ["bored", "engaged"]')
        return cleaned

    @field_validator("label_set")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        try:
            return label_set(name).name if name is not None else None
        except EmoreasonError as error:
            raise ValueError(f"{name!r} is not one of {', '.join(LABEL_SETS)}") from error

    @model_validator(mode="after")
    def _one_of_them(self) -> "AnalysisOptions":
        if self.labels is not None and self.label_set is not None:
            raise ValueError("give either labels or label_set")
        return self

    @property
    def asked_labels(self) -> tuple[str, ...] | None:
        """None: the model's own."""
        if self.label_set is not None:
            return label_set(self.label_set).labels
        return tuple(self.labels) if self.labels is not None else None


# ---- chat completions ------------------------------------------------------------------------------------------------


def _short(name: str) -> BeforeValidator:
    """A string stands for the object whose one field is `name`."""
    return BeforeValidator(lambda given: {name: given} if isinstance(given, str) else given)


class ImageUrl(BaseModel):
    url: Annotated[str, Field(description="`data:image/jpeg;base64,…`; an http(s) address where the server allows it.")]


class MessagePart(BaseModel):
    type: Literal["text", "image_url"]
    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    image_url: Annotated[ImageUrl | None, _short("url")] = None

    @model_validator(mode="after")
    def _filled(self) -> "MessagePart":
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} needs the field {self.type}")
        return self


def _as_parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class UserMessage(BaseModel):
    role: Literal["user"]
    content: Annotated[list[MessagePart], BeforeValidator(_as_parts, json_schema_input_type=str | list[MessagePart])]


class OtherMessage(BaseModel):
    """Of the others only the assistant's answers count: a system text is accepted, and changes nothing."""

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


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Stop = Annotated[str, Field(min_length=1, max_length=200)]


class ChatRequest(AnalysisOptions):
    messages: Annotated[list[Message], Field(min_length=1, max_length=1000)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: Annotated[
        list[Stop] | None,
        Field(max_length=4, description="The text ends before the first of these strings."),
        BeforeValidator(_as_list, json_schema_input_type=str | list[Stop] | None),
    ] = None
    max_tokens: Annotated[int | None, Field(ge=1, description="The older name of max_completion_tokens.")] = None
    max_completion_tokens: Annotated[int | None, Field(ge=1)] = None
    temperature: Annotated[
        float | None,
        Field(ge=0, le=2, description="How freely words are chosen. Every one of them is bound to the evidence."),
    ] = None
    seed: Annotated[
        int | None, Field(ge=-(2**63), lt=2**63, description="Other words for the same face. Equal seeds, equal words.")
    ] = None
    n: Annotated[Literal[1] | None, Field(description="One answer is given.")] = None

    @field_validator("messages")
    @classmethod
    def _asks(cls, messages: list[Any]) -> list[Any]:
        if messages[-1].role != "user":
            raise ValueError("the last message has to be the user's")
        return messages

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def manner(self) -> Style:
        return Style(self.temperature, self.seed or 0, self.brief)


# ---- emotions --------------------------------------------------------------------------------------------------------


class Image(BaseModel):
    data: Annotated[
        str, Field(description="`data:image/jpeg;base64,…`; an http(s) address where the server allows it.")
    ]
    name: Annotated[Name | None, Field(description="What the answer calls it.")] = None


class EmotionsOptions(AnalysisOptions):
    explain: Annotated[bool, Field(description="Write explanations too: a second or so a face.")] = False

    @model_validator(mode="after")
    def _words_decide(self) -> "EmotionsOptions":
        if self.decide != "evidence" and not self.explain:
            raise ValueError(f'decide "{self.decide}" asks the language model: add "explain": true')
        return self

    @property
    def manner(self) -> Style:
        return Style(brief=self.brief)


class EmotionsRequest(EmotionsOptions):
    images: Annotated[
        list[Annotated[Image, BeforeValidator(_short("data").func, json_schema_input_type=str | Image)]],
        Field(min_length=1, description="Pictures as strings, or as objects that give them a name."),
    ]


def split_labels(given: list[str] | None) -> list[str] | None:
    """The labels of a form: one field each, or one field with commas."""
    if not given:
        return None
    return re.split(r"\s*,\s*", given[0].strip()) if len(given) == 1 else given
