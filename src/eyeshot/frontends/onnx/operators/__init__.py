"""What each ONNX operator computes, in torch's functions: one table."""

from __future__ import annotations

from eyeshot.frontends.onnx.operators import (
    moving,
    pointwise,
    products,
    resizing,
    statistics,
)
from eyeshot.frontends.onnx.site import Compute

GROUPS: dict[str, dict[str, Compute]] = {
    "number by number": pointwise.COMPUTE,
    "convolutions and products": products.COMPUTE,
    "pooling": statistics.COMPUTE,
    "resizing": resizing.COMPUTE,
    "moving and joining": moving.COMPUTE,
    "shapes": moving.SHAPES,
    "statistics": statistics.REDUCTIONS,
    "norms": statistics.NORMS,
    "quantized": products.QUANTIZED,
}
"""The operators that are computed, by what they do."""

COMPUTE = {name: compute for group in GROUPS.values() for name, compute in group.items()}
"""What a node computes, by its operator."""

_BY_CONTENT = "how many numbers it gives depends on the image's content"
_STATE = "it carries a state along its axis: no exact answer by parts"
_RANDOM = "it gives other random numbers at each call"
_SEQUENCE = "it works on sequences of tensors"
_TEXT = "it works on texts"
_PLAIN = "export a network of plain layers"
_EACH = {
    _BY_CONTENT: "NonMaxSuppression NonZero Unique Compress StringSplit",
    _STATE: "LSTM GRU RNN Scan",
    _RANDOM: "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli",
    _SEQUENCE: """
        SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
        SequenceMap SplitToSequence ConcatFromSequence Optional OptionalGetElement
        OptionalHasElement
    """,
    _TEXT: "StringConcat StringNormalizer RegexFullMatch TfIdfVectorizer LabelEncoder",
    "it repeats by numbers of the image": "Loop",
}
REASONS: dict[str, tuple[str, str]] = {
    name: (reason, _PLAIN) for reason, names in _EACH.items() for name in names.split()
}
"""Why some operators are not computed, and what to do, by their names."""
