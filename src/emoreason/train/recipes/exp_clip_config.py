"""Configuration of the Exp-CLIP recipe, which learns a projection from faces without labels."""

from dataclasses import dataclass, field


@dataclass
class ExpClipData:
    source: str = ""
    """Faces in any layout that emoreason reads. Labels are ignored."""
    validation: str = ""
    """Labeled faces to score zero-shot before and after training. Empty: no scores."""
    crops: str = "auto"
    """yes: the pictures are face crops; no: find the faces and cut them out; auto: decide from some pictures."""
    limit: int = 0
    """Use at most this many pictures of the source; 0 means all."""


@dataclass
class TeacherConfig:
    model: str = "Salesforce/blip2-flan-t5-xxl"
    """A BLIP-2 with a Flan-T5, by name or folder; own: the mini's explainer; or the folder of another explainer."""
    instruction: str = (
        "Please play the role of a facial action describer. "
        "Objectively describe the detailed facial actions of the person in the image."
    )
    batch_size: int = 16
    """Faces per batch of the teacher; affects only memory and speed."""


@dataclass
class ProjectionTraining:
    epochs: int = 5
    """0 keeps the random initial map, as a baseline."""
    batch_size: int = 512
    """Faces that are contrasted with each other in one step; an incomplete last batch is left out."""
    lr: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0001
    checkpoint_every: int = 20


@dataclass
class ExpClipConfig:
    kind: str = "exp-clip"
    seed: int = 1
    model: str = "ViT-L-14/openai"
    """The encoder: mini, a folder with a model, or an open_clip name."""
    out: str = "runs/exp-clip"
    device: str = "auto"
    detector: str = "auto"
    data: ExpClipData = field(default_factory=ExpClipData)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    train: ProjectionTraining = field(default_factory=ProjectionTraining)
