"""Result types: a Picture, the Faces in it, and the Evidence for each face."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    import numpy as np

POSE = ("yaw", "pitch", "roll")  # degrees; positive: to the right of the picture, up, clockwise


@dataclass(frozen=True)
class Picture:
    """One upright RGB picture. `frame` and `time_s` are set only for the frames of an animation."""

    source: str
    image: Image.Image
    frame: int | None = None
    time_s: float | None = None
    full: tuple[int, int] | None = None  # its original size, if `image` was made smaller to save memory

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture that boxes refer to."""
        return self.full or self.image.size

    def smaller(self, longest: int) -> "Picture":
        """A copy for display whose longer side has at most `longest` pixels."""
        if max(self.image.size) <= longest:
            return self
        image = self.image.copy()
        image.thumbnail((longest, longest), reducing_gap=2.0)
        return replace(self, image=image, full=self.size)


@dataclass(frozen=True)
class Face:
    """`box` is None for a whole picture. `crop` is square, RGB, at the picture's own resolution."""

    face_id: int
    box: tuple[int, int, int, int] | None
    score: float | None
    crop: Image.Image
    quality: dict[str, float]
    square: tuple[float, float, float, float] | None = (
        None  # the crop in the picture: centre x, y, side, roll in degrees
    )


@dataclass(frozen=True)
class Evidence:
    """What the model measured on one face."""

    probabilities: dict[str, float]  # over the requested labels; sum to 1
    label: str
    confidence: float
    calibrated: bool  # whether the confidence was calibrated on held-out faces for exactly these labels
    action_units: dict[str, float] = field(default_factory=dict)  # code -> intensity 0..1
    valence: float | None = None  # -1..1
    arousal: float | None = None
    point_measured: bool = (
        False  # whether valence and arousal come from a trained head; else derived from the probabilities
    )
    abstained: bool = False
    why: str = ""  # why it abstained
    sides: dict[str, tuple[float, float]] = field(default_factory=dict)  # unit -> intensity on the person's left, right
    pose: tuple[float, float, float] | None = (
        None  # yaw, pitch, roll in degrees: to the right of the picture, up, clockwise
    )
    shift: float | None = None  # distance from the faces it was trained on; 95 of 100 ordinary faces stay below 1
    covered: tuple[str, ...] = ()  # "eyes", "mouth": nothing is said of them
    notes: tuple[str, ...] = ()  # what a reader must know beside the numbers, such as "bored: not validated"
    landmarks: "np.ndarray | None" = field(default=None, compare=False, repr=False)  # (478, 2) in pixels of the picture
