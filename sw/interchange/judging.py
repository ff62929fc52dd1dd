"""Contents of an interchange file become integers: every part of them is checked first."""

from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from hdl.console import RefusedError
from hdl.formats import Format

from ..compiler.shapes import Shape, output_shape
from ..compiler.shapes import read as read_by
from ..compiler.shapes import written as written_by
from ..graph import IMAGE, Convolution, ImageRounding, IntegerGraph, Node, Pooling
from .content import KIND, VERSION, Header, Interchange, read
from .members import count, counts, format_of, member, objects, optional, positive
from .nodes import node_of


class _Tensor(NamedTuple):
    """A tensor that was written.

    Members
    -------
    shape : tuple of int
        Channels, height, width.
    kind : str
        ``"codes"`` or ``"values"``.
    """

    shape: Shape
    kind: str


def load_network(path: Path) -> IntegerGraph:
    """Read an interchange file as integers.

    Raises
    ------
    RefusedError
        If the file is unreadable, incomplete or inconsistent, or a weight is off its format's grid.
    """
    try:
        return integers(read(path))
    except RefusedError as error:
        text = str(error)
        raise RefusedError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def integers(content: Interchange) -> IntegerGraph:
    """The integer graph of an interchange file's contents, every part of it checked.

    Raises
    ------
    RefusedError
        If anything is missing, has a wrong shape or type, does not fit its neighbours, or a weight is
        off its format's grid.
    """
    header = content.header
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise RefusedError(f"header: kind must be {KIND!r}")
    if header.get("version") != VERSION:
        raise RefusedError(f"header: version must be {VERSION}, not {header.get('version')!r}: export again")
    channels, height, width = counts(header, "header", "input_shape", number=3, low=1)
    input_format = format_of(header, "header", "input_format")
    fill = member(header, "header", "fill", list)
    if fill:
        low, high = input_format.grid[0], input_format.max_level
        counts(header, "header", "fill", number=channels, low=low, high=high)
    for key in ("input_scale", "input_offset"):
        _reals(header, "header", key, number=channels)
    entries = objects(header, "header", "nodes")
    if not entries:
        raise RefusedError("header: nodes must hold at least one node")
    names = [entry.get("name") for entry in entries]
    if len({str(name) for name in names}) != len(names):
        raise RefusedError(f"header: node names must differ, not {names!r}")
    graph = IntegerGraph(
        input_shape=(channels, height, width),
        nodes=tuple(node_of(entry, content.tensors) for entry in entries),
        logit_scale=positive(header, "header", "logit_scale"),
        input_format=input_format.name,
        border=count(header, "header", "border", low=0),
        fill=tuple(fill),
        rounding=_rounding(header, channels, input_format),
    )
    _check_flow(graph)
    return graph


def _rounding(header: Header, channels: int, input_format: Format) -> ImageRounding | None:
    entry = optional(header, "header", "rounding", dict)
    if entry is None:
        return None
    where, ends = "header: rounding", (input_format.grid[0], input_format.max_level)
    scale, offset = (_reals(entry, where, key, number=channels) for key in ("scale", "offset"))
    if not all(scale):
        raise RefusedError(f"{where}: scale must not be 0, not {list(scale)!r}")
    lowest = count(entry, where, "lowest", low=ends[0], high=ends[1])
    highest = count(entry, where, "highest", low=lowest, high=ends[1])
    return ImageRounding(scale=scale, offset=offset, lowest=lowest, highest=highest)


def _reals(values: Header, where: str, key: str, *, number: int) -> tuple[float, ...]:
    found = member(values, where, key, list)
    if len(found) != number or not all(isinstance(each, float) and isfinite(each) for each in found):
        raise RefusedError(f"{where}: {key} must be {number} JSON real numbers, not {found!r}")
    return tuple(found)


def _check_flow(graph: IntegerGraph) -> None:
    """Refuse nodes that do not fit one another."""
    channels, *size = graph.input_shape
    height, width = (each + 2 * graph.border for each in size)
    written = {IMAGE: _Tensor((channels, height, width), "codes")}
    unread: dict[str, str] = {}
    for node in graph.nodes:
        wanted = "codes" if isinstance(node, Convolution) else "values"
        source = _read(written, node, "source", node.source, kind=wanted)
        if isinstance(node, Convolution):
            _check_addends(node, written, source)
        _check_channels(node, source[0])
        shape = output_shape(node, source)
        if node.residual is not None:
            beside = _read(written, node, "residual", node.residual, kind="values")
            if beside != shape:
                raise RefusedError(
                    f"{node.name}: residual {node.residual!r} must have shape {_shown(shape)}, "
                    f"not {_shown(beside)}"
                )
        for tensor in read_by(node):
            unread.pop(tensor, None)
        if node.is_result != (node is graph.nodes[-1]):
            raise RefusedError(
                f"{node.name}: {'must write codes or values' if node.is_result else 'must write nothing'}, "
                f"since it is {'not ' if node.is_result else ''}the last node, whose y is the result"
            )
        for name in written_by(node):
            if name in written:
                raise RefusedError(f"{node.name}: tensor {name!r} must not be written twice")
            written[name] = _Tensor(shape, "values" if name == node.values else "codes")
            unread[name] = node.name
    for name, writer in unread.items():
        raise RefusedError(f"{writer}: tensor {name!r} must be read by a later node")


def _read(written: dict[str, _Tensor], node: Node, role: str, name: str, *, kind: str) -> Shape:
    if name not in written:
        raise RefusedError(f"{node.name}: {role} {name!r} must be a tensor that an earlier node writes")
    if written[name].kind != kind:
        raise RefusedError(
            f"{node.name}: {role} {name!r} must be a tensor of {kind}, not of {written[name].kind}"
        )
    return written[name].shape


def _check_addends(node: Convolution, written: dict[str, _Tensor], shape: Shape) -> None:
    """Refuse further sources that are the image, or no codes of the source's shape, or named twice."""
    for addend in node.addends:
        found = _read(written, node, "addend", addend.tensor, kind="codes")
        if found != shape:
            raise RefusedError(
                f"{node.name}: addend {addend.tensor!r} must have shape {_shown(shape)}, not {_shown(found)}"
            )
    if node.addends and (IMAGE in node.sources or len({*node.sources}) < len(node.sources)):
        raise RefusedError(
            f"{node.name}: source and addends must be different tensors, and none of them the image, "
            f"not {', '.join(map(repr, node.sources))}"
        )


def _check_channels(node: Node, channels: int) -> None:
    """Refuse weights or constants of another number of channels than the source has."""
    if isinstance(node, Pooling):
        outputs = node.channels_before + channels + node.channels_after
        if len(node.multiplier) != outputs:
            raise RefusedError(
                f"{node.name}.multiplier: must have {outputs} values, one an output channel, "
                f"not {len(node.multiplier)}"
            )
        return
    assert isinstance(node, Convolution)
    if node.groups not in (1, channels):
        raise RefusedError(
            f"{node.name}: groups must be 1 or the number of channels, {channels}, not {node.groups}"
        )
    outputs, inputs, *_ = node.weights.shape
    if inputs != channels // node.groups:
        raise RefusedError(
            f"{node.name}.weight: must have {channels // node.groups} input channels, not {inputs}"
        )
    if node.groups not in (1, outputs):
        raise RefusedError(f"{node.name}.weight: must have {channels} output channels, not {outputs}")


def _shown(shape: Any) -> str:
    return " × ".join(map(str, shape))
