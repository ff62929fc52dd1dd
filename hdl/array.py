"""The array: a decoder of activations, and rows that all use it."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .activation import LoadableDecoder
from .dot import DotProduct, DotRows, weight_layout
from .formats import APoT, Basis
from .parameters import AcceleratorParameters
from .planes import PlaneDot
from .shift import ShiftDot


class Array(wiring.Component):
    """`rows` × `lanes` products a cycle into `rows` accumulators.

    A cycle with `enable` adds, in every row, the dot product of that row's weights and the decoded
    activations; with `clear` too, the sums start with it.  The result stands in `accumulators` after
    `latency` cycles.  One word pair a cycle, no back-pressure.  Sums of up to `depth` products cannot
    overflow; longer ones wrap around, and are right if they end in range.  Rows are folded where the format
    allows it (`AcceleratorParameters.fold`).

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    latency : int
    accumulator_shape : Shape
    enable, clear : In(1)
    weights : In(weight_layout)
        Codes of the weight format.
    held_weights : Out(weight_layout)
        `weights`, one cycle later.
    codes, table, inside, write_enable, write_address, write_data : In
        See `LoadableDecoder`.
    accumulators : Out(ArrayLayout(accumulator_shape, rows))
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        p = parameters
        self._decoder = LoadableDecoder(
            lanes=p.lanes,
            code_width=p.code_width,
            activation_width=p.activation_width,
            tables=p.banked(p.tables),
        )
        self._rows = array_rows(p)
        self.latency = self._decoder.latency + self._rows.latency
        self.accumulator_shape = self._rows.accumulator_shape
        shared = ("codes", "table", "inside", "write_enable", "write_address", "write_data")
        members = self._decoder.signature.members
        weights = weight_layout(p.format.code_width, lanes=p.lanes, rows=p.rows)
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "weights": In(weights),
                "held_weights": Out(weights),
                **{name: members[name] for name in shared},
                "accumulators": Out(data.ArrayLayout(self.accumulator_shape, p.rows)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.decoder = decoder = self._decoder
        m.d.comb += [
            decoder.codes.eq(self.codes),
            decoder.table.eq(self.table),
            decoder.inside.eq(self.inside),
            decoder.write_enable.eq(self.write_enable),
            decoder.write_address.eq(self.write_address),
            decoder.write_data.eq(self.write_data),
        ]
        m.submodules.rows = rows = self._rows
        for name in ("enable", "clear", "weights"):
            # Weights are cleared slice by slice when they are read back; a reset of them would cost gates.
            decoded = Signal.like(getattr(self, name), name=f"{name}_of_levels", reset_less=name == "weights")
            m.d.sync += decoded.eq(getattr(self, name))
            m.d.comb += getattr(rows, name).eq(decoded)
        m.d.comb += [
            rows.activations.eq(decoder.levels),
            self.held_weights.eq(rows.weights),
            self.accumulators.eq(rows.accumulators),
        ]
        return m


def array_rows(parameters: AcceleratorParameters) -> DotRows | PlaneDot:
    """The rows of an accelerator: the circuit of its weight format, folded where the packer can take that."""
    p = parameters
    weight_format = p.format
    if isinstance(weight_format, APoT):
        return ShiftDot(
            weight_format=weight_format,
            activation_width=p.activation_width,
            lanes=p.lanes,
            rows=p.rows,
            depth=p.depth,
            folded=p.folded,
        )
    if isinstance(weight_format, Basis):
        return PlaneDot(
            weight_format=weight_format,
            activation_width=p.activation_width,
            lanes=p.lanes,
            rows=p.rows,
            depth=p.depth,
        )
    return DotProduct(
        weight_format=weight_format,
        activation_width=p.activation_width,
        lanes=p.lanes,
        rows=p.rows,
        depth=p.depth,
    )
