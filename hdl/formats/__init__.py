"""Number formats: finite tables of exact integers, known here and nowhere else.

Pure Python: nothing in this package imports Amaranth, torch or numpy.
"""

from .apot import APoT, PoT, Term, apot
from .base import Field, Format, signed_width
from .basis import Basis, basis
from .catalog import SCHEMES, named
from .checks import check_bool, check_int
from .companded import Companded, level_table, product_table, ranked
from .table import Table
from .uniform import SignMagnitude, Uniform

__all__ = [
    "SCHEMES",
    "APoT",
    "Basis",
    "Companded",
    "Field",
    "Format",
    "PoT",
    "SignMagnitude",
    "Table",
    "Term",
    "Uniform",
    "apot",
    "basis",
    "check_bool",
    "check_int",
    "level_table",
    "named",
    "product_table",
    "ranked",
    "signed_width",
]
