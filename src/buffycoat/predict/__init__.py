"""Predict: labels for new images from a bundle, outside the workflow; a layer above the stages, which it calls."""

from buffycoat.predict.predictor import Predictor

__all__ = ["Predictor"]
