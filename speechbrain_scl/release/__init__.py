"""Giving a trained encoder away: inference folder, model card, hub, ONNX."""
