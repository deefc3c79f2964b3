"""Configuration of Exp-CLIP's recipe: a projection learned from faces without labels. The rules: train/config.py."""

from dataclasses import dataclass, field


@dataclass
class ExpClipData:
    source: str = ""
    """Faces in any layout that emoreason reads. Labels are not looked at, even where there are some."""
    validation: str = ""
    """Labeled faces to measure zero-shot before and after on. Empty: nothing is measured."""
    crops: str = "auto"
    """yes: the pictures are face crops; no: faces are looked for; auto: decided by looking at some of them."""
    limit: int = 0
    """Use only that many faces of the source; 0 means all."""


@dataclass
class TeacherConfig:
    model: str = "Salesforce/blip2-flan-t5-xxl"
    """A BLIP-2 with a Flan-T5, by name or folder; own: the mini's language model; or the folder of an explainer."""
    instruction: str = (
        "Please play the role of a facial action describer. "
        "Objectively describe the detailed facial actions of the person in the image."
    )
    batch_size: int = 16
    """Faces at a time; it changes nothing but memory and speed."""


@dataclass
class ProjectionTraining:
    epochs: int = 5
    """0 leaves the random map that training begins with: what any gain is to be compared with."""
    batch_size: int = 512
    """Faces that are told from each other in one step; the faces that do not fill a last batch are left out."""
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
