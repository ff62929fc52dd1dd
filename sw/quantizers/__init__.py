"""Quantizers as torch modules, one scheme a file, over the formats of `hdl.formats`."""

from .absmax import AbsMaxWeight
from .base import Quantizer
from .dmbq import DMBQWeight
from .lcq import LCQActivation, LCQWeight
from .lloyd import LloydWeight
from .lsq import LSQActivation, LSQWeight
from .mixed import MixedActivation, MixedDMBQWeight, MixedQuantizer
from .normalize import normalized
from .projection import Projection, projection
from .rcf import RCFActivation, RCFWeight

__all__ = [
    "AbsMaxWeight",
    "DMBQWeight",
    "LCQActivation",
    "LCQWeight",
    "LSQActivation",
    "LSQWeight",
    "LloydWeight",
    "MixedActivation",
    "MixedDMBQWeight",
    "MixedQuantizer",
    "Projection",
    "Quantizer",
    "RCFActivation",
    "RCFWeight",
    "normalized",
    "projection",
]
