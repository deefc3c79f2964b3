"""The image tower, whole or through LoRA."""
