"""Export VGG19 to checked ONNX files; the only package that imports torchvision."""

from nstrt.exporter.build import Export, build_model, export, export_all, specs_of
from nstrt.exporter.check import Check
from nstrt.exporter.vgg import FeatureNet
from nstrt.exporter.weights import Weights, load_weights

__all__ = [
    "Check",
    "Export",
    "FeatureNet",
    "Weights",
    "build_model",
    "export",
    "export_all",
    "load_weights",
    "specs_of",
]
