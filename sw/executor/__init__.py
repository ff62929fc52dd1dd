"""The integer executor: runs a packed image as the accelerator would, whole commands at a time.

It reads what is shipped and nothing else: the program and the contents of the memories, word by word, as
`hdl.layouts` describes them.  A command is fetched and judged as by the `Sequencer`, its addresses are those
of the `Walker`, and its arithmetic is that of `Array`, `Pooling` and `Requantizer`, bit for bit.
"""

from .datapath import Datapath
from .machine import Machine, Observer
from .memories import Constants, Memories
from .program import FaultError, Instruction, fetch
from .tensors import codes_of, put_codes, values_of
from .walk import Walk, walks
from .words import code_fields

__all__ = [
    "Constants",
    "Datapath",
    "FaultError",
    "Instruction",
    "Machine",
    "Memories",
    "Observer",
    "Walk",
    "code_fields",
    "codes_of",
    "fetch",
    "put_codes",
    "values_of",
    "walks",
]
