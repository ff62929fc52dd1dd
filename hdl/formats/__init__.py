"""Number formats: finite tables of exact integers, known here and nowhere else.

Pure Python: nothing in this package imports Amaranth, torch or numpy.
"""

from .apot import APoT, PoT, Term, apot
from .base import Field, Format
from .catalog import SCHEMES, named
from .uniform import Uniform

__all__ = ["SCHEMES", "APoT", "Field", "Format", "PoT", "Term", "Uniform", "apot", "named"]
