"""The interchange file before packing: real weights on the grid, scales and the graph, in safetensors.

The metadata entry ``network`` is JSON: kind, version, how the ends meet the world (see `IntegerGraph`; images
and ``fill`` are levels of ``input_format``, ``uniform_b8u`` or ``uniform_b8`` say), and the nodes in order of
execution with the members of `Convolution` or `Pooling`; ``op`` says which.  What one writes is
``encodings``, each with tensor, format, ``scale`` (real value of one level) and ``zero`` (the level that
stands for 0), and ``values``, with tensor and ``scale`` (real value of one unit).  Real values are for
readers that compute in floats; integers do not need them, nor do they need ``input_scale`` and
``input_offset``, which make a real number of a pixel, one each a channel.  ``rounding`` has the members of
`ImageRounding`, or is null where an image is what the model takes.

Tensors of node ``name``: ``name.multiplier``, ``name.bias`` and ``name.shift`` (int64, one an output
channel); of a convolution ``name.weight`` (float32, output × input × height × width, the fake-quantized
weights) and ``name.scale`` (float32, real value of one weight level, for the layer or for each output
channel).  Where output channels have different numbers of bits, ``name.bits`` (int64) says which, for readers
that make use of it.  If a convolution has further sources, ``addends`` are their names, and the multipliers
of the first one are ``name.addend0.multiplier``, of the next one ``name.addend1.multiplier``.
``tensor.thresholds`` (int64) belongs to each encoding.
"""

from ..graph import IntegerGraph
from .content import KIND, VERSION, Header, Interchange, Tensors, read, save
from .judging import integers, load_network

__all__ = [
    "KIND",
    "VERSION",
    "Header",
    "IntegerGraph",
    "Interchange",
    "Tensors",
    "integers",
    "load_network",
    "read",
    "save",
]
