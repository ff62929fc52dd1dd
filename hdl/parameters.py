"""Parameters of the accelerator: what hardware and packer must agree on, and the id that says they do."""

import json
from dataclasses import asdict, dataclass, fields
from zlib import crc32

from .formats import APoT, Basis, Format, check_bool, check_int, named, signed_width
from .formats.digits import signed_digits

HARDWARE_VERSION = 3
"""Raised whenever an image packed for one version would not run on the next."""

MULTIPLIER_WIDTH = 18
BIAS_WIDTH = 48
SHIFT_WIDTH = 6
VALUE_WIDTH = 18
RESULT_WIDTH = 32
ADDRESS_WIDTH = 24
COORDINATE_WIDTH = 16
MAX_DEPTH = 2**20
MAX_VALUE_WORDS = 2**20
MAX_CODEBOOKS = 256
MAX_INDEX_WIDTH = 8
MAX_WINDOW = 4096
"""The most values that are pooled into one; larger windows may overflow."""
PASS_SHIFT_WIDTH = 4
LIMB_WIDTH = MULTIPLIER_WIDTH - 1
"""Bits of an accumulator that one multiplier block takes beside a sign."""
FETCH_LATENCY = 2
"""Cycles from a program address until the sequencer has the word in a register."""
READ_BACK_LATENCY = 4
"""Cycles from the host's place in a section until the engine shows it the word."""


@dataclass(frozen=True, kw_only=True)
class AcceleratorParameters:
    """The choices one generated accelerator is built from.

    Parameters
    ----------
    weight_format
        Name of a signed format; its codes are what the array multiplies, and without codebooks what the
        weight memory holds.
    rows
        Output channels computed at once, a multiple of `requantizers`.
    lanes
        Products a row sums each cycle, a power of two from `requantizers` to 256.
    requantizers
        Output values requantized each cycle, a power of two; together their codes fill at most 32 bits.
    code_width
        Bits of an activation code, 1 to 8.
    activation_width
        Bits of a decoded activation level, 1 to 16.
    depth
        Products of the largest level and activation that an accumulator holds the sum of; it decides the
        width.  A pass may have more of smaller weights: the packer judges the weights themselves.
    tables
        Activation decoding tables held at a time.
    encodings
        Sets of encoding boundaries held at a time.
    codebooks
        Codebooks held at a time, at most 256: tables that turn what the weight memory holds into codes, a
        codebook for each layer; 0 for weights that are codes themselves.
    index_width
        Bits of a weight in memory where there are codebooks, 1 to 8; 0 without them.
    passes
        The most passes of one layer.
    activation_words
        Words of activation memory, each the codes of `lanes` channels of a pixel.
    weight_words
        Words of weight memory, each the codes of all rows and lanes.
    channel_words
        Words of channel memory, each the requantization of `requantizers` channels.
    program_words
        Words of program memory, 32 bits each.
    result_words
        Words of result memory, each `requantizers` results.
    value_words
        Words of values memory, each `requantizers` values of 18 bits; 0 for an accelerator that neither
        pools nor adds residuals.
    banks
        Images held at a time, 1 or 2: programs with their weights, channels, tables and boundaries.
    cores
        Inputs worked on at a time, a power of two up to 16: arrays with activations, values and results of
        their own, in lockstep on the same program.
    read_back
        Whether a host can read memories back; if not, READ is refused like any unknown opcode.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range or two do not fit together.
    """

    weight_format: str = "apot_k2n1o"
    rows: int = 16
    lanes: int = 16
    requantizers: int = 8
    code_width: int = 4
    activation_width: int = 6
    depth: int = 4608
    tables: int = 2
    encodings: int = 2
    codebooks: int = 0
    index_width: int = 0
    passes: int = 16
    activation_words: int = 4096
    weight_words: int = 1024
    channel_words: int = 512
    program_words: int = 256
    result_words: int = 32
    value_words: int = 0
    banks: int = 1
    cores: int = 1
    read_back: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.weight_format, str):
            raise TypeError(f"weight_format must be a format's name, not {self.weight_format!r}")
        if not self.format.signed:
            raise ValueError(f"weight_format must be a signed format, not {self.weight_format!r}")
        for name, high in _LIMITS.items():
            check_int(name, getattr(self, name), low=1, high=high)
        check_int("value_words", self.value_words, low=0, high=MAX_VALUE_WORDS)
        check_bool("read_back", self.read_back)
        check_int("codebooks", self.codebooks, low=0, high=MAX_CODEBOOKS)
        check_int("index_width", self.index_width, low=0, high=MAX_INDEX_WIDTH)
        for name in ("requantizers", "cores"):
            if getattr(self, name) & (getattr(self, name) - 1):
                raise ValueError(f"{name} must be a power of two, not {getattr(self, name)!r}")
        if self.requantizers * self.code_width > 32:
            raise ValueError(
                f"requantizers must be at most {32 // self.code_width} with codes of {self.code_width} bits, "
                f"not {self.requantizers!r}"
            )
        if self.rows % self.requantizers:
            raise ValueError(f"rows must be a multiple of requantizers, not {self.rows!r}")
        if self.lanes & (self.lanes - 1) or self.lanes < self.requantizers:
            raise ValueError(f"lanes must be a power of two, at least requantizers, not {self.lanes!r}")
        if not self.pads and self.rows % self.lanes:
            raise ValueError(
                f"rows must be a multiple of lanes, since {self.weight_format!r} has no level 0 to pad with, "
                f"not {self.rows!r}"
            )
        for name in ("tables", "encodings"):
            if getattr(self, name) * self.banks > _LIMITS[name]:
                most = _LIMITS[name] // self.banks
                raise ValueError(
                    f"{name} must be at most {most} with {self.banks} banks, not {getattr(self, name)!r}"
                )
        if self.depth < self.lanes:
            raise ValueError(f"depth must be at least lanes, not {self.depth!r}")
        self._check_codebooks()

    def _check_codebooks(self) -> None:
        if bool(self.codebooks) != bool(self.index_width):
            wanted = "at least 1 with" if self.codebooks else "0 without"
            raise ValueError(f"index_width must be {wanted} codebooks, not {self.index_width!r}")
        if self.index_width > self.format.code_width:
            raise ValueError(
                f"index_width must be at most {self.format.code_width}, the bits of a code of "
                f"{self.weight_format!r}, not {self.index_width!r}"
            )
        if self.codebooks and not self.pads:
            raise ValueError(
                f"codebooks must be 0, since {self.weight_format!r} has no level 0 to pad with, "
                f"not {self.codebooks!r}"
            )

    @property
    def format(self) -> Format:
        """The weight format."""
        return named(self.weight_format)

    @property
    def weight_width(self) -> int:
        """Bits of a weight in memory."""
        return self.index_width or self.format.code_width

    @property
    def codebook_cycles(self) -> int:
        """Cycles in which a codebook is copied to the weights' decoders; 0 if there are none."""
        return 2**self.index_width if self.codebooks else 0

    @property
    def pads(self) -> bool:
        """Whether weights can be 0; if not, activations must be where there are no channels."""
        return 0 in self.format.codes

    @property
    def folded(self) -> bool:
        """Whether rows leave the correction of negative weights to the packer (see `fold`)."""
        return isinstance(self.format, APoT)

    def fold(self, level: int) -> int:
        """What a row adds too much for each weight of this level, whatever the activation."""
        return (2**self.activation_width - 1) * max(0, -level) if self.folded else 0

    def banked(self, words: int) -> int:
        """Words of a memory that holds so many in every bank; the bank is the address' top bit."""
        return words if self.banks == 1 else self.banks << address_width(words)

    @property
    def groups(self) -> int:
        """Cycles in which the requantizers serve all rows once; no pass is shorter."""
        return self.rows // self.requantizers

    @property
    def groups_per_word(self) -> int:
        """Groups of codes in a word of activation memory."""
        return self.lanes // self.requantizers

    @property
    def accumulator_width(self) -> int:
        """Bits of a row's accumulator, a sign included even where sums are never below 0."""
        low, high = self.format.sum_range(depth=self.depth, activation_max=2**self.activation_width - 1)
        return max(high, -low).bit_length() + 1 if self.folded else signed_width(low, high)

    @property
    def pooled_width(self) -> int:
        """Bits of a pooled sum; 0 without values memory."""
        return VALUE_WIDTH + (MAX_WINDOW - 1).bit_length() if self.value_words else 0

    @property
    def sum_width(self) -> int:
        """Bits of the sum of all passes, scaled and biased."""
        accumulator = max(self.accumulator_width, self.pooled_width)
        products = accumulator + MULTIPLIER_WIDTH + (self.passes - 1).bit_length()
        return max(products, BIAS_WIDTH) + 1

    @property
    def limbs(self) -> int:
        """Multiplier blocks side by side that scale an accumulator at any place."""
        placed = self.accumulator_width + 2**PASS_SHIFT_WIDTH - 1
        return -(-(max(placed, self.pooled_width) - 1) // LIMB_WIDTH)

    @property
    def requantizer_latency(self) -> int:
        """Cycles from a group's accumulators until its values are ready to be encoded."""
        return 6 + self.limbs.bit_length() + (2 if self.value_words else 0)

    @property
    def row_latency(self) -> int:
        """Cycles from activations to accumulators in the array's rows."""
        if isinstance(self.format, Basis):
            return _plane_latency(self.format.coordinates, lanes=self.lanes)
        terms = self.format.terms if isinstance(self.format, APoT) else ()
        selecting = any(len(term.shifts) > 1 for term in terms)
        joining = (len(terms) - 1).bit_length() if terms else 0
        return 2 + selecting + (self.lanes - 1).bit_length() + joining

    @property
    def drain(self) -> int:
        """Cycles from a layer's last step until its last output can be read (see `Engine`)."""
        return 4 + self.row_latency + self.requantizer_latency + self.groups + self.code_width

    @property
    def build_id(self) -> int:
        """32 bits that two accelerators share only if one image fits both."""
        text = json.dumps({"version": HARDWARE_VERSION, **asdict(self)}, sort_keys=True)
        return crc32(text.encode())


def address_width(words: int) -> int:
    """Bits that address so many words."""
    return max(words - 1, 0).bit_length()


def _plane_latency(coordinates: tuple[int, ...], *, lanes: int) -> int:
    """Pairs, selections, the sum of a plane, an exact carry, weights, and the accumulator."""
    levels = (lanes + 1) // 2 - 1
    weighting = sum(len(signed_digits(each)) for each in coordinates) - 1
    return 3 + levels.bit_length() + (coordinates != (1,)) + weighting.bit_length()


_LIMITS = {
    "rows": 256,
    "lanes": 256,
    "requantizers": 32,
    "code_width": 8,
    "activation_width": 16,
    "depth": MAX_DEPTH,
    "tables": 16,
    "encodings": 64,
    "passes": 255,
    "activation_words": 2**20,
    "weight_words": 2**20,
    "channel_words": 2**20,
    "program_words": 2**16,
    "result_words": 2**16,
    "banks": 2,
    "cores": 16,
}


def parameters_from(values: object) -> AcceleratorParameters:
    """Parameters read back from JSON.

    Raises
    ------
    ValueError
        If `values` is not a mapping of exactly the known names to valid values.
    """
    names = {field.name for field in fields(AcceleratorParameters)}
    if not isinstance(values, dict) or set(values) != names:
        raise ValueError(f"parameters must name exactly {', '.join(sorted(names))}")
    try:
        return AcceleratorParameters(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error
