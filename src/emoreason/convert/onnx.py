"""Export a model as one ONNX file: face crops as bytes in, probabilities of its labels out.

    pixels         uint8 (batch, S, S, 3)     RGB, as Encoder.pixels returns them
    probabilities  float (batch, labels)      calibrated, at one operating point
    embedding      float (batch, D)           of unit length, in CLIP's space
    action_units   float (batch, units)       0..1, if the model has them

The file's metadata holds names and sizes. The graph includes normalisation and the pass over mirrored crops.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoreason.core.device import Compute
from emoreason.core.errors import EmoreasonError, missing
from emoreason.core.files import write_atomically
from emoreason.evidence.calibration import FARTHEST, USUAL, OperatingPoint
from emoreason.evidence.reader import TURNED, TURNED_SHIFT
from emoreason.knowledge.words import EMOTIONS
from emoreason.models.encoder import load_encoder
from emoreason.reasoner import load

if TYPE_CHECKING:
    from emoreason.evidence.reader import Reader

OPSET = 20
MAX_WEIGHT_BYTES = 1.9e9  # one ONNX file holds at most 2 GiB


def write_onnx(name: str, out: Path, point: str = "") -> None:
    import torch

    try:
        import onnx
        import onnxscript  # noqa: F401  (torch writes ONNX with it)
    except ImportError as error:
        raise missing("onnx", error) from None
    reasoner = load(name, device_name="cpu", explainer="none", point=point)
    encoder = load_encoder(name, Compute("cpu", "float32", "as it is exported"))
    size = sum(p.numel() * 4 for p in encoder.visual.parameters())
    if size > MAX_WEIGHT_BYTES:
        raise EmoreasonError(f"the image tower of {name} has {size / 1e9:.1f} GB; one ONNX file holds less than 2 GB")
    graph = _graph(encoder, reasoner.reader, reasoner.default_labels)
    outputs = ["probabilities", "embedding", *(["action_units"] if encoder.unit_codes else [])]
    example = torch.zeros(2, encoder.size, encoder.size, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        graph, (example,), input_names=["pixels"], output_names=outputs, opset_version=OPSET, dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
    )  # fmt: skip
    assert program is not None
    model = program.model_proto
    _remove_metadata(model.graph)
    metadata = {
        "model": reasoner.name, "revision": reasoner.revision, "labels": json.dumps(list(reasoner.default_labels)),
        "action_units": json.dumps(list(encoder.unit_codes)),
        "operating_point": reasoner.reader.operating_point, "size": str(encoder.size),
        "about": "The expression that is shown, not what a person feels. Not for use at work or in education "
                 "(EU AI Act, article 5(1)(f)).",
    }  # fmt: skip
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, model.SerializeToString())
    except OSError as error:
        raise EmoreasonError(f"-o {out} cannot be written: {error.strerror or error}") from None


def _linear(reader: "Reader", labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, "OperatingPoint"]:
    """Weight (L, D) and bias (L,) from what labels are read from to logits without the prior, and the operating point.

    They are read from the embedding, or from the eight emotions if the model reads those off a face."""
    emotions = reader.head is None and reader.meanings is not None
    if reader.head is not None:
        weight, bias = reader.head.weight, reader.head.bias
    elif emotions:
        weight, bias = np.eye(len(EMOTIONS))[[EMOTIONS.index(label) for label in labels]], np.zeros(len(labels))
    else:
        weight = reader.zeroshot.encoder.logit_scale * reader.zeroshot.prototypes(labels)
        bias = np.zeros(len(labels))
    point = reader.calibration.points.get(reader.operating_point, OperatingPoint())
    if reader.calibration.covers(labels):
        prior = np.array([reader.calibration.prior[label] for label in labels])
        bias = bias - point.prior_strength * np.log(np.maximum(prior, 1e-6))
    return weight, bias, point if emotions else replace(point, shift_slope=0.0)


def _graph(encoder: Any, reader: "Reader", labels: tuple[str, ...]) -> Any:
    import torch
    from torch.nn.functional import normalize

    weight, bias, point = _linear(reader, labels)
    from_emotions = reader.head is None and reader.meanings is not None
    measured = encoder.untuned or encoder  # the model whose features the read-out was fitted on

    class Graph(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor
        weight: torch.Tensor
        bias: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.visual: Any = encoder.visual
            self.readout: Any = measured.readout
            self.tower: Any = measured.visual.trunk if measured.readout is not None else None
            self.register_buffer("mean", encoder.mean)
            self.register_buffer("std", encoder.std)
            self.register_buffer("weight", torch.from_numpy(np.asarray(weight, dtype=np.float32)))
            self.register_buffer("bias", torch.from_numpy(np.asarray(bias, dtype=np.float32)))

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            faces = pixels.permute(0, 3, 1, 2).float().div(255).sub(self.mean).div(self.std)
            views = [faces, faces.flip(3)] if encoder.mirror else [faces]
            grids = [self.tower.forward_features(view) for view in views] if self.readout is not None else []
            if encoder.untuned is None and grids:
                outputs = [self.visual.head(grid.mean(dim=(2, 3))) for grid in grids]
            else:
                outputs = [self.visual(view) for view in views]
            embedding = normalize(torch.stack([normalize(output, dim=1) for output in outputs]).mean(0), dim=1)
            if self.readout is None:
                return self.probabilities(embedding, None), embedding
            units, face = self.readout(grids)
            if from_emotions:
                turned = (face["pose"][:, 0].abs() > TURNED).float()
                return self.probabilities(face["emotions"], face["shift"] + TURNED_SHIFT * turned), embedding, units
            return self.probabilities(embedding, None), embedding, units

        def probabilities(self, inputs: torch.Tensor, shift: torch.Tensor | None) -> torch.Tensor:
            temperature: Any = point.temperature
            if shift is not None:
                away = (shift - USUAL).clamp(0.0, FARTHEST)
                temperature = (temperature * (point.shift_slope * away).exp()).unsqueeze(1)
            return ((inputs @ self.weight.T + self.bias) / temperature).softmax(dim=1)

    return Graph().eval()


def _remove_metadata(graph: Any) -> None:
    """Remove the paths of source files on this machine, which the exporter records for every node."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
