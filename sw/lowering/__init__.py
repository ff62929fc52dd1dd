"""From a quantized torch model to the interchange contents: exact weights, folded normalization, one graph.

`sw.lowering.tracing` records the forward pass.  `operations` and `layers` say what each call makes of a
*value* (`values`), which is followed symbolically: an affine function of what a node computes, perhaps
rectified.  Only where somebody reads it is it written, as codes (`codes`) or as values.  `units` then chooses
what one unit of each y stands for, and `emission` writes nodes and tensors.
"""

from .lower import Lowering, interchange, lower

__all__ = ["Lowering", "interchange", "lower"]
