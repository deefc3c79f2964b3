"""The configurations of the mini's second training and of its read-outs: finetune/mini-eyes.yaml, mini-readout.yaml."""

from dataclasses import dataclass, field

from emoreason.train.settings import AugmentConfig


@dataclass
class EyesData:
    train: str = "ferplus/train.parquet"
    """FER+ parquet of the training faces."""
    validation: str = "ferplus/validation.parquet"
    """Faces for scores in the log; their copies are removed from train."""
    landmarks: str = "landmarks"
    """Folder with train.npz, validation.npz and wild.npz of finetune/landmarks.py."""
    wild: str = ""
    """Parquet of faces of a real size, without labels: image and subject."""
    pictures: str = ""
    """Folder of pictures without faces."""
    holdout: int = 1500
    """Faces of train held out for calibration and the prior."""


@dataclass
class EyesTraining:
    start: str = "runs/mini-2/weights.safetensors"
    """weights.safetensors of the encoder to start from; its answers are the labels of faces without votes."""
    epochs: int = 16
    batch_size: int = 40
    """FER+ faces in a step."""
    wild_size: int = 18
    """Faces without votes in a step."""
    nonface_size: int = 6
    """Pictures that are no face in a step."""
    lr: float = 0.001
    weight_decay: float = 0.05
    warmup: float = 0.08
    ema: float = 0.9985
    clip_norm: float = 5.0
    teacher_share: float = 0.3
    """Share of the starting encoder's answer in the targets of faces with votes."""
    caption_weight: float = 0.1
    head_weight: float = 0.5
    wild_weight: float = 0.5
    points_weight: float = 8.0
    blendshape_weight: float = 2.0
    pose_weight: float = 1.0
    seen_weight: float = 0.5
    text_noise: float = 0.3
    cover: float = 0.3
    """Share of the faces that are partly covered."""
    turned: float = 0.12
    """Share of the faces that are turned in the picture by up to 40 degrees."""


@dataclass
class EyesConfig:
    kind: str = "eyes"
    name: str = "mini"
    seed: int = 12
    model: str = "emoreason-mini"
    text: str = "prompts/training.yaml"
    out: str = "runs/mini-3"
    limit: int = 0
    """Use at most this many training faces, for a quick try; 0 means all."""
    data: EyesData = field(default_factory=EyesData)
    train: EyesTraining = field(default_factory=EyesTraining)
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(12.0, 0.12, 0.08, 0.3, 0.3, 0.0, 0.0))


@dataclass
class ReadoutFit:
    unit_penalty: float = 50.0
    """Penalty on the squared weights of a unit, with the losses of all coded faces summed."""
    emotion_penalty: float = 0.01
    """Penalty on the squared weights of the emotions, with the mean loss of a face."""
    sure: float = 0.98
    """Precision that a unit needs to be named in a text."""
    sure_from: float = 0.85
    """Lowest probability at which a text may name a unit, chosen on half of the validation faces coded by eye."""
    missed: float = 0.005
    """Share of faces that may show a unit although a text may call it absent."""
    shift_rank: int = 32
    home: float = 0.97
    """Share of the held-out faces that count as like the training faces."""


@dataclass
class ReadoutConfig:
    kind: str = "readout"
    name: str = "mini"
    seed: int = 13
    model: str = "emoreason-mini"
    run: str = "runs/mini-3"
    """The folder of the run of mini-eyes.yaml."""
    out: str = "runs/mini"
    codes: str = "eval/coded_faces"
    """Folder with the faces coded by eye."""
    limit: int = 0
    data: EyesData = field(default_factory=EyesData)
    fit: ReadoutFit = field(default_factory=ReadoutFit)
