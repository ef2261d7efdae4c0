"""Margin-contrastive speaker embeddings for SpeechBrain.

The objective of Li, Mak and Meng (ICASSP 2023, arXiv 2210.16622) as plain
PyTorch modules and one SpeechBrain ``Brain``: a supervised contrastive loss
with an angular margin, class-aware attention over its pairs, and gradient
balancing between it and the classification loss.
"""

__version__ = "0.1.0"
