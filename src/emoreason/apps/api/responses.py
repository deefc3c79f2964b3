"""Response types: they make the schema in /docs, and a test validates every response against them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Share = Annotated[float, Field(ge=0, le=1)]
Shares = dict[str, Share]


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    error: ErrorDetail


# ---- models ----------------------------------------------------------------------------------------------------------


class Figures(BaseModel):
    accuracy: float
    uar: float
    macro_f1: float | None = None


class MeasuredResponse(BaseModel):
    measured_on: str
    before: Annotated[Figures | None, Field(description="Scores on the same faces before fine-tuning.")]
    after: Figures
    counts: Annotated[dict[str, dict[str, int]], Field(description="Number of faces by part and label.")]
    protocol: str


class Model(BaseModel):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    state: Annotated[Literal["idle", "loading", "ready", "failed", "closed"], Field(description="idle: not used yet")]
    revision: Annotated[str | None, Field(description="Known once the model is loaded.")]
    labels: Annotated[list[str] | None, Field(description="Labels it uses if a request gives none.")]
    explains: Annotated[bool | None, Field(description="Whether it has a language model.")]
    base: Annotated[str | None, Field(description="The model that a fine-tuned model builds on.")]
    measured: Annotated[MeasuredResponse | None, Field(description="Scores from its card; null if there are none.")]


class Models(BaseModel):
    object: Literal["list"]
    data: list[Model]


# ---- chat completions ------------------------------------------------------------------------------------------------


class AssistantMessage(BaseModel):
    role: Literal["assistant"]
    content: str
    refusal: None


class CompletionChoice(BaseModel):
    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: Literal["stop", "length"]


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: Annotated[str, Field(description="Revision of the model.")]
    choices: list[CompletionChoice]
    usage: Usage


# ---- emotions --------------------------------------------------------------------------------------------------------


class Observation(BaseModel):
    action_unit: str
    band: str | None
    region: str
    present: bool
    side: str | None
    text: str


class ReasonedResponse(BaseModel):
    label: str
    probabilities: Shares


class ExplanationResponse(BaseModel):
    observations: list[Observation]
    interpretation: str | None
    conclusion: str | None
    text: Annotated[str, Field(description="The three sections as written.")]
    short: Annotated[str, Field(description="The text for readers: reading, what is seen, how well it fits.")]
    reasoned: Annotated[ReasonedResponse | None, Field(description="The language model's own verdict.")]
    agreement: Annotated[bool | None, Field(description="Whether that verdict agrees with the evidence.")]
    checks: dict[str, Any]
    explainer: str
    repaired: bool


class Sides(BaseModel):
    """Intensities on the person's left and right."""

    left: Share
    right: Share


class Pose(BaseModel):
    yaw: Annotated[float, Field(description="To the right of the picture.")]
    pitch: Annotated[float, Field(description="Up.")]
    roll: Annotated[float, Field(description="Clockwise.")]


class FaceResponse(BaseModel):
    face_id: int
    box: Annotated[list[int] | None, Field(description="x, y, width, height in pixels; null for a whole picture.")]
    face_score: float | None
    status: Literal["ok", "abstained"]
    why: Annotated[str | None, Field(description="Why there is no answer.")]
    quality: dict[str, float]
    label: str
    confidence: Share
    calibrated: Annotated[bool, Field(description="Whether confidence was calibrated for these labels.")]
    probabilities: Annotated[Shares, Field(description="One value per requested label; they sum to 1.")]
    valence: float | None
    arousal: float | None
    valence_arousal_source: Literal["derived", "measured"] | None
    action_units: Annotated[Shares, Field(description="Intensity by action unit code.")]
    action_unit_sides: Annotated[
        dict[str, Sides], Field(description="By side, for units that one side can show alone.")
    ]
    pose: Annotated[Pose | None, Field(description="How the head is turned, in degrees.")]
    shift: Annotated[float | None, Field(description="Distance from the training faces; ordinary faces stay below 1.")]
    notes: Annotated[list[str], Field(description="What must be known beside the numbers.")]
    explanation: ExplanationResponse | None
    evidence: Annotated[
        ReasonedResponse | None, Field(description="The evidence's own distribution, if `decide` is not `evidence`.")
    ] = None


class AnalysisResponse(BaseModel):
    source: str
    frame: int | None
    time_s: float | None
    width: int
    height: int
    model: str
    revision: str
    prompt_id: str
    faces: Annotated[list[FaceResponse], Field(description="Left to right; empty if no face was found.")]


class RefusedPicture(BaseModel):
    """A picture that could not be read. The others are still analyzed."""

    source: str
    error: str


class Emotions(BaseModel):
    object: Literal["list"]
    model: str
    data: Annotated[
        list[AnalysisResponse | RefusedPicture],
        Field(description="One entry per picture, in the order of the request."),
    ]


# ---- operation -------------------------------------------------------------------------------------------------------


class Ready(BaseModel):
    ready: bool
    state: Literal["loading", "ready", "failed", "closed", "draining"]
    reason: str | None
