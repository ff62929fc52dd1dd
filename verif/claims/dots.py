"""Dot products as they are shipped: 16 lanes, for sums of any length up to the declared depth.

A solver cannot compare adder trees of 16 lanes that differ, so a proof has parts, each about the whole block:

*Terms*.  What one vector adds, T, is additive: T of all lanes is T of the lower half plus T of the upper
half, the other lanes idle, and so on down to a single lane, whose T is its product by the level table.
Hence T is the sum of the products.  Copies of the block with idle lanes share nearly all of their logic, so
that every step is about a single adder.  Where a weight's terms have a tree each, T of all terms is first the
sum of T of each.

*Planes*.  Where weights are planes of signs, T is the weighted sum of what the same dot product of a single
plane makes of each plane; its T is a claim about terms.

*Sums*.  Whatever T within the range of a vector's products the block adds, its accumulators are the sums
since the last clear and do not overflow: by induction, for any sequence of enables, clears and resets in
which no more products are summed than the declared depth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.verilog import Design, generate

from ..claim import Claim, Description
from ..specification import HEADROOM, delayed, instance

ONE_PLANE = "one_plane_dot"


class Vectors(wiring.Component):
    """Instances of a dot product with free vectors, and what it must make of them by the level table."""

    def __init__(self, description: Description, **more: Any) -> None:
        self.description = description
        parameters = description["parameters"]
        ports = {port["name"]: port["width"] for port in description["ports"]}
        self.lanes, self.rows = parameters["lanes"], parameters["rows"]
        self.activation_width = parameters["activation_width"]
        self.code_width = ports["weights"] // (self.lanes * self.rows)
        self.latency = description["latency"]
        self.vectors = parameters["depth"] // self.lanes
        self.planes = _factors(description)
        self._operands = [name for name in ("weights", "activations", "plane") if name in ports]
        super().__init__({**{name: In(ports[name]) for name in self._operands}, **more})

    def weight(self, row: int, lane: int) -> Value:
        return self.weights.word_select(row * self.lanes + lane, self.code_width)

    def activation(self, lane: int) -> Value:
        return self.activations.word_select(lane, self.activation_width)

    def by_plane(self, m: Module, choices: list[int]) -> Value:
        """The entry of the plane of `latency` cycles ago, if there are several; that of no plane is 0."""
        if "plane" not in self._operands:
            return Const(choices[0])
        plane = self.late(m, self.plane)
        return Array([*choices, *[0] * (2 ** len(plane) - len(choices))])[plane]

    def late(self, m: Module, value: Value) -> Value:
        """When a vector's sum is there, and whatever the reset does."""
        return delayed(m, value, cycles=self.latency, reset_less=True)

    def accumulators(self, m: Module, description: Description | None = None, **inputs: Any) -> list[Value]:
        """Those of one more instance, as integers; vectors are the free ones unless given."""
        description = description or self.description
        ports = [port["name"] for port in description["ports"]]
        operands = {name: getattr(self, name) for name in self._operands if name in ports}
        outputs = instance(m, description, name=None, **(operands | inputs))
        width, is_signed = (description["accumulator"][key] for key in ("width", "signed"))
        words = [outputs["accumulators"].word_select(row, width) for row in range(self.rows)]
        return [word.as_signed() if is_signed else word for word in words]

    def terms(self, m: Module, description: Description | None = None, **inputs: Any) -> list[Value]:
        """What a vector adds to each accumulator, `latency` cycles later: a sum that starts with it."""
        return self.accumulators(m, description, rst=0, enable=1, clear=1, **inputs)


def _factors(description: Description) -> list[list[list[tuple[int, int]]]]:
    """By plane (one, unless serial), lane modulo 2 and code: the activation's factor, and the excess."""
    columns = [description["levels"]]
    if description.get("serial"):
        columns = [[-each, each] for each in description["coordinates"]]
    fold = description.get("fold")
    if fold is None:
        return [[[(level, 0) for level in column]] * 2 for column in columns]
    return [
        [
            [(fold["multiple"] * level, more) for level, more in zip(column, codes, strict=True)]
            for codes in lanes
        ]
        for column, lanes in zip(columns, fold["excess"], strict=True)
    ]


class Terms(Vectors):
    """One step of the proof that a vector's sum is the sum of its products.

    Parameters
    ----------
    lanes
        That are not idle.  The sum of several is the sum of both halves; that of one is its product.
    mask
        Bits that weights have in this step; the others are 0.
    masks
        Of the parts of `mask` whose sums add up to its sum, in place of the halves of the lanes.
    """

    def __init__(
        self, description: Description, *, lanes: range, mask: int, masks: Sequence[int] = ()
    ) -> None:
        super().__init__(description)
        self._active, self._mask, self._masks = lanes, mask, masks
        [self._values] = self.planes
        self._idle = [
            min(
                range(len(values)), key=lambda code: (values[code][1], abs(values[code][0]), -values[code][0])
            )
            for values in self._values
        ]
        if any(values[code][1] for values, code in zip(self._values, self._idle, strict=True)):
            raise ValueError(f"a code must add nothing to an activation of 0, not {self._values!r}")
        for values in self._values if masks else ():
            for code, value in enumerate(values):
                parts = [values[code & each] for each in masks]
                if tuple(map(sum, zip(*parts, strict=True))) != value:
                    raise ValueError(f"levels must be sums over fields, not {values!r}")

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = self._active
        if self._masks:
            parts = [self._part(m, lanes, mask) for mask in self._masks]
        elif len(lanes) > 1:
            parts = [self._part(m, half, self._mask) for half in halves(lanes)]
        else:
            products = [self._product(row, lanes.start, self._mask) for row in range(self.rows)]
            parts = [[self.late(m, product) for product in products]]
        for term, *addends in zip(self._part(m, lanes, self._mask), *parts, strict=True):
            m.d.comb += Assert(term == sum(addends, Const(0)))
        return m

    def _part(self, m: Module, lanes: range, mask: int) -> list[Value]:
        """The terms with all other lanes idle, and without the bits of weights that `mask` lacks."""
        idle = [Const(self._idle[lane % 2], self.code_width) for lane in range(self.lanes)]
        weights = [
            self.weight(row, lane) & mask if lane in lanes else idle[lane]
            for row in range(self.rows)
            for lane in range(self.lanes)
        ]
        activations = [
            self.activation(lane) if lane in lanes else Const(0, self.activation_width)
            for lane in range(self.lanes)
        ]
        return self.terms(m, weights=Cat(*weights), activations=Cat(*activations))

    def _product(self, row: int, lane: int, mask: int) -> Value:
        factors, excess = zip(*self._values[lane % 2], strict=True)
        code = self.weight(row, lane) & mask
        return Array(factors)[code] * self.activation(lane) + Array(excess)[code]


def halves(lanes: range) -> tuple[range, range]:
    """The lower and the upper half."""
    middle = (lanes.start + lanes.stop) // 2
    return range(lanes.start, middle), range(middle, lanes.stop)


def terms(description: Description, *, split: bool = False) -> Iterator[Terms]:
    """All steps of the proof about a vector's sum.

    Parameters
    ----------
    split
        Over the fields of a weight first, the last of which is a sign that is common to all.
    """
    fields = [((1 << field["width"]) - 1) << field["lsb"] for field in description["code_layout"]]
    everything, everyone = sum(fields), range(description["parameters"]["lanes"])
    masks = [field | fields[-1] for field in fields[:-1]] if split else [everything]
    if split:
        yield Terms(description, lanes=everyone, mask=everything, masks=masks)
    for mask in masks:
        waiting = [everyone]
        while waiting:
            lanes = waiting.pop()
            yield Terms(description, lanes=lanes, mask=mask)
            if len(lanes) > 1:
                waiting += halves(lanes)


class Planes(Vectors):
    """A vector's sum is the weighted sum of a single plane's: of each plane, or of the one that comes.

    Plain integers have the highest plane inverted, and the sum of all activations taken off; what is left is
    twice the sum, and halved unless it is folded.

    The description is of both dot products; see `with_one_plane`.
    """

    def __init__(self, description: Description) -> None:
        super().__init__(description)
        self._one = description["one_plane"]
        self._integers = "coordinates" not in description
        levels = description["levels"]
        bits = range((len(levels) - 1).bit_length())
        self._coordinates = [1 << bit for bit in bits] if self._integers else description["coordinates"]
        top = len(levels) // 2 if self._integers else 0
        for code, level in enumerate(levels):
            signed_sum = sum(
                (2 * ((code ^ top) >> bit & 1) - 1) * each for bit, each in enumerate(self._coordinates)
            )
            if signed_sum != (2 * level + 1 if self._integers else level):
                raise ValueError(f"levels must be sums of plus or minus coordinates, not {level!r}")

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        if self.description.get("serial"):
            coordinate = self.by_plane(m, self._coordinates)
            sums = [coordinate * term for term in self._plane(m, self.weights)]
        else:
            planes = [self.weights[number :: self.code_width] for number in range(self.code_width)]
            if self._integers:
                planes[-1] = ~planes[-1]
            terms = [self._plane(m, plane) for plane in planes]
            sums = [
                sum((weight * term for weight, term in zip(self._coordinates, row, strict=True)), Const(0))
                for row in zip(*terms, strict=True)
            ]
        if self._integers:
            ones = self._plane(m, Const(-1, self.lanes * self.rows))
            sums = [self._of_integers(total, every) for total, every in zip(sums, ones, strict=True)]
        for term, total in zip(self.terms(m), sums, strict=True):
            m.d.comb += Assert(term == total)
        return m

    def _of_integers(self, total: Value, activations: Value) -> Value:
        if self.description["folded"]:
            return total + self.lanes * (2**self.activation_width - 1) - activations
        return (total - activations) >> 1

    def _plane(self, m: Module, bits: Value) -> list[Value]:
        later = self.latency - self._one["latency"]
        terms = self.terms(m, self._one, weights=bits)
        return [delayed(m, term, cycles=later, reset_less=True) for term in terms]


class Sums(Vectors):
    """Accumulators are the sums of terms since the last clear, for all time, and never overflow."""

    def __init__(self, description: Description) -> None:
        super().__init__(description, enable=In(1), clear=In(1))

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        width = self.description["accumulator"]["width"] + 1 + HEADROOM
        lows, highs = zip(*map(self._range, self.planes), strict=True)
        enable, clear, filled = self._control(m)
        low, high = (self.by_plane(m, list(ends)) for ends in (lows, highs))

        def running(step: Value, name: str) -> Signal:
            last, now = (Signal(signed(width), name=f"{when}_{name}") for when in ("last", "now"))
            m.d.comb += now.eq(Mux(clear, 0, last) + Mux(enable, step, 0))
            m.d.sync += last.eq(now)
            return now

        # What the extremes would sum to says at once how many products there were and what they can make.
        floor, ceiling = running(low, "floor"), running(high, "ceiling")
        m.d.comb += Assume((floor >= self.vectors * sum(lows)) & (ceiling <= self.vectors * sum(highs)))
        sums = self.accumulators(m, enable=self.enable, clear=self.clear)
        terms = self.accumulators(m, enable=1, clear=1)  # with the same reset, so that most is shared
        for row, (accumulator, term) in enumerate(zip(sums, terms, strict=True)):
            total = running(term, f"total{row}")
            m.d.comb += [
                Assume(~filled | ((term >= low) & (term <= high))),
                Assert((total >= floor) & (total <= ceiling)),
                Assert(total == accumulator),
            ]
        return m

    def _control(self, m: Module) -> tuple[Value, Value, Value]:
        """Enable and clear when a vector's sum is there, and whether any can be since the reset."""
        enable, clear, filled = self.enable, self.clear, Const(1)
        for _ in range(self.latency):
            enable, clear, filled = (delayed(m, value, cycles=1) for value in (enable, clear, filled))
            m.d.comb += Assert(filled | ~enable)
        return enable, clear, filled

    def _range(self, lanes: list[list[tuple[int, int]]]) -> tuple[int, int]:
        """What a vector can add, and 0."""
        largest = 2**self.activation_width - 1
        ends = [
            [more + factor * a for factor, more in lanes[lane % 2] for a in (0, largest)]
            for lane in range(self.lanes)
        ]
        return min(0, sum(map(min, ends))), max(0, sum(map(max, ends)))


def with_one_plane(block: str, **parameters: Any) -> Design:
    """A dot product of planes, and beside it that of a single plane of the same size."""
    whole = generate(block, **parameters)
    same = {
        key: whole.description["parameters"][key] for key in ("activation_width", "lanes", "rows", "folded")
    }
    one = generate("basis_dot", name=ONE_PLANE, coordinates=(1,), **same)
    description = {**whole.description, "one_plane": one.description}
    return replace(whole, verilog=whole.verilog + one.verilog, description=description)


SHIFTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("apot_dot", {"k": 2, "n": 1}),
    ("apot_dot", {"k": 2, "n": 2}),
    ("apot_dot", {"k": 2, "n": 1, "odd": True, "folded": True}),
    ("apot_dot", {"k": 2, "n": 2, "folded": True}),
    ("pot_dot", {"k": 2, "folded": True}),
    ("uniform_dot", {"bits": 4}),
    ("table_dot", {"format": "uniform_b4", "lanes": 4, "activation_width": 4}),
)
TINY = {"lanes": 2, "activation_width": 2, "depth": 64}
"""For planes whose sums have many digits: a solver cannot tell that adders may change places."""
PLANES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("basis_dot", {"family": "laplace", "planes": 2}),
    ("basis_dot", {"family": "laplace", "planes": 2, "serial": True}),
    ("basis_dot", {"family": "laplace", "planes": 3, **TINY}),
    ("basis_dot", {"family": "laplace", "planes": 4, **TINY}),
    ("basis_dot", {"family": "laplace", "planes": 4, "serial": True}),
    ("uniform_planes_dot", {"bits": 2, **TINY}),
    ("uniform_planes_dot", {"bits": 4, **TINY}),
)


def _claims() -> Iterator[Claim]:
    for block, parameters in SHIFTS:
        fields = parameters.get("n", 1) + parameters.get("odd", False)
        yield _terms(block, split=fields > 1, **parameters)
        yield _sums(block, **parameters)
    yield _terms("apot_dot", k=2, n=1, lanes=4, rows=3)
    yield _sums("apot_dot", k=2, n=1, lanes=4, rows=3)
    yield _terms("basis_dot", coordinates=(1,), folded=True)
    yield _terms("basis_dot", coordinates=(1,))
    for block, choice in PLANES:
        for fold in ({"folded": True}, {}):
            parameters = {**choice, **fold}
            yield Claim(
                block=block,
                parameters=parameters,
                specification=Planes,
                generator=with_one_plane,
                says="planes",
                from_any_state=True,
            )
            yield _sums(block, **parameters)
    for planes, width in ((1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1)):
        parameters = {"family": "laplace", "planes": planes, "activation_width": width, "lanes": 4}
        yield _terms("popcount_dot", **parameters)
        yield _sums("popcount_dot", **parameters)


def _terms(block: str, *, split: bool = False, **parameters: Any) -> Claim:
    return Claim(
        block=block,
        parameters=parameters,
        specification=partial(terms, split=split),
        says="terms",
        from_any_state=True,
    )


def _sums(block: str, **parameters: Any) -> Claim:
    return Claim(block=block, parameters=parameters, specification=Sums, says="sums")


CLAIMS = tuple(_claims())
