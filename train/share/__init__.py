"""A network handed on: an export with its card, and ONNX."""
