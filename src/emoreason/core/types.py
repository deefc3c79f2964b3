"""What is read out of pictures: a Picture, the Faces in it, and the Evidence of each face."""

from dataclasses import dataclass, field, replace

from PIL import Image


@dataclass(frozen=True)
class Picture:
    """One upright RGB picture. `frame` and `time_s` are set only for the frames of an animation."""

    source: str
    image: Image.Image
    frame: int | None = None
    time_s: float | None = None
    full: tuple[int, int] | None = None  # its size before it was made smaller for keeping

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that boxes count in."""
        return self.full or self.image.size

    def smaller(self, longest: int) -> "Picture":
        """For keeping and showing it, after it was read."""
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
        None  # of the crop in the picture: centre x, y, side, degrees turned
    )


@dataclass(frozen=True)
class Evidence:
    """What one face shows, as far as the model can tell."""

    probabilities: dict[str, float]  # sums to 1 over the asked labels
    label: str
    confidence: float
    calibrated: bool  # the confidence was checked on held-out faces for these very labels
    action_units: dict[str, float] = field(default_factory=dict)  # code -> intensity 0..1
    valence: float | None = None  # -1..1
    arousal: float | None = None
    point_measured: bool = False  # valence and arousal by a trained head; else derived from the distribution
    abstained: bool = False
    why: str = ""  # why it abstained
