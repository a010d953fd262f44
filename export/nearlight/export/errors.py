"""Every error of the exporter, as one tree.

ExportError        a model cannot become a bundle
├── SourceError    the model is missing, damaged or of a kind that is not supported
├── GraphError     the ONNX graph is not what a bundle needs
└── ParityError    the graph's vectors are not those of the model
"""


class ExportError(Exception):
    """A model cannot become a bundle."""


class SourceError(ExportError):
    """The model is missing, damaged or of a kind that is not supported."""


class GraphError(ExportError):
    """The ONNX graph is not what a bundle needs."""


class ParityError(ExportError):
    """The graph's vectors are not those of the model."""
