"""Models for other programs: merged, ONNX, PEFT, transformers, GGUF."""
