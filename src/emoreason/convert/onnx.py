"""Export a model as one ONNX file: face crops as bytes in, probabilities of its labels out.

    pixels         uint8 (batch, S, S, 3)     RGB, as Encoder.pixels returns them
    probabilities  float (batch, labels)      calibrated, at one operating point
    embedding      float (batch, D)           of unit length, in CLIP's space
    action_units   float (batch, units)       0..1, if the model has them

The file's metadata holds names and sizes. The graph includes normalisation and the pass over mirrored crops.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoreason.core.device import Compute
from emoreason.core.errors import EmoreasonError, missing
from emoreason.core.files import write_atomically
from emoreason.models.encoder import load_encoder
from emoreason.reasoner import load

if TYPE_CHECKING:
    from emoreason.evidence.reader import Reader

OPSET = 20
MAX_WEIGHT_BYTES = 1.9e9  # one ONNX file holds at most 2 GiB


def write_onnx(name: str, out: Path, point: str = "accurate") -> None:
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
    graph = _graph(encoder, *linear(reasoner.reader, reasoner.default_labels))
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
        "action_units": json.dumps(list(encoder.unit_codes)), "operating_point": point, "size": str(encoder.size),
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


def linear(reader: "Reader", labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Weight (L, D) and bias (L,) from an embedding to the logits before the softmax, calibration included."""
    if reader.head is not None:
        weight, bias = reader.head.weight, reader.head.bias
    else:
        weight = reader.zeroshot.encoder.logit_scale * reader.zeroshot.prototypes(labels)
        bias = np.zeros(len(labels))
    point = reader.calibration.points.get(reader.point)
    if point is None:
        return weight, bias
    if reader.calibration.covers(labels):
        prior = np.array([reader.calibration.prior[label] for label in labels])
        bias = bias - point.prior_strength * np.log(np.maximum(prior, 1e-6))
    return weight / point.temperature, bias / point.temperature


def _graph(encoder: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    import torch

    class Graph(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor
        weight: torch.Tensor
        bias: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.visual: Any = encoder.visual
            self.units: Any = encoder.unit_head
            self.register_buffer("mean", encoder.mean)
            self.register_buffer("std", encoder.std)
            self.register_buffer("weight", torch.from_numpy(np.asarray(weight, dtype=np.float32)))
            self.register_buffer("bias", torch.from_numpy(np.asarray(bias, dtype=np.float32)))

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            faces = pixels.permute(0, 3, 1, 2).float().div(255).sub(self.mean).div(self.std)
            outputs = [self.encode_view(view) for view in ([faces, faces.flip(3)] if encoder.mirror else [faces])]
            embedding = torch.nn.functional.normalize(torch.stack([e for e, _ in outputs]).mean(0), dim=1)
            probabilities = (embedding @ self.weight.T + self.bias).softmax(dim=1)
            if self.units is None:
                return probabilities, embedding
            return probabilities, embedding, torch.stack([u for _, u in outputs]).mean(0)

        def encode_view(self, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if self.units is None:
                return torch.nn.functional.normalize(self.visual(faces), dim=1), faces
            pooled = self.visual.trunk(faces)
            return torch.nn.functional.normalize(self.visual.head(pooled), dim=1), self.units(pooled).sigmoid()

    return Graph().eval()


def _remove_metadata(graph: Any) -> None:
    """Remove the paths of source files on this machine, which the exporter records for every node."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
