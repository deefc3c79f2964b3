"""Convert models for other programs: merged folders, ONNX, PEFT, transformers, GGUF."""
