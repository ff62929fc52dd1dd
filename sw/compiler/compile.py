"""Compiler: an integer graph becomes the memories' contents for one accelerator."""

from dataclasses import dataclass, replace

from hdl.console import RefusedError
from hdl.formats import Uniform, named
from hdl.layouts import Section
from hdl.parameters import AcceleratorParameters

from ..bits import Words
from ..graph import IMAGE, Convolution, IntegerGraph, Node
from .channel_order import reordered
from .commands import Command
from .input_layout import InputLayout, counted, unfolded
from .limits import check_node
from .memories import Memories
from .node_commands import commands_of
from .placement import Placement, place_tensors
from .schedule import LayerSchedule
from .sums import SumBits, check_sums


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Contents of the memories: for each section its words as 32-bit slices, and how to use them.

    Members
    -------
    results
        Words of result memory.
    classes
        Results that count.
    logit_scale
        Real value of one unit of a result.
    usage
        Words in use of the memories that programs write: ``activation_words``, ``value_words`` and
        ``result_words``.
    """

    parameters: AcceleratorParameters
    sections: dict[Section, Words]
    input: InputLayout
    results: int
    classes: int
    logit_scale: float
    schedule: tuple[LayerSchedule, ...]
    usage: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Lowered:
    """A graph as commands, of which nothing is packed yet.

    Members
    -------
    input
        How a host lays out images.
    placement
        Where tensors lie.
    nodes
        Each node with its commands.
    sums
        What the sums of each node's commands need.
    """

    input: InputLayout
    placement: Placement
    nodes: tuple[tuple[Node, tuple[Command, ...]], ...]
    sums: tuple[tuple[SumBits, ...], ...]


def lower(graph: IntegerGraph, parameters: AcceleratorParameters) -> Lowered:
    """Place tensors and split nodes into commands and passes.

    Raises
    ------
    RefusedError
        If the graph does not fit the accelerator; the message names the layer and by how much.
    """
    _check_image(graph)
    values, unsigned = named(graph.input_format), counted(graph)
    seen, patches = unfolded(unsigned, lanes=parameters.lanes)
    seen, orders = reordered(seen, parameters=parameters)
    placement = place_tensors(seen, parameters, orders=orders)
    image, nodes, sums = placement.codes[IMAGE], [], []
    codebook = None
    for node in seen.nodes:
        check_node(node, parameters)
        commands = []
        for command in commands_of(node, placement, parameters):
            switches = command.codebook not in (None, codebook)
            commands.append(replace(command, switches=switches))
            codebook = command.codebook or codebook
        nodes.append((node, tuple(commands)))
        sums.append(tuple(check_sums(node.name, command, parameters) for command in commands))
    layout = InputLayout(
        shape=graph.input_shape,
        lowest=values.grid[0],
        highest=values.max_level,
        kernel=patches.kernel,
        stride=patches.stride,
        padding=patches.padding,
        fill=unsigned.fill,
        digit_width=(len(image.digits[0][1]) - 1).bit_length(),
        digits=len(image.digits),
        words=image.shape[1] * image.shape[2] * image.pitch,
        rounding=graph.rounding,
    )
    return Lowered(input=layout, placement=placement, nodes=tuple(nodes), sums=tuple(sums))


def compile_network(graph: IntegerGraph, parameters: AcceleratorParameters) -> Compiled:
    """Lower a graph and lay out every memory.

    Raises
    ------
    RefusedError
        If the graph does not fit the accelerator; the message names the layer and by how much.
    """
    lowered = lower(graph, parameters)
    memories = Memories(parameters)
    schedule = []
    for index, (node, commands) in enumerate(lowered.nodes):
        for command in commands:
            memories.add(command, name=node.name)
        schedule.append(_scheduled(lowered, index, parameters))
    classes = len(graph.nodes[-1].multiplier)
    return Compiled(
        parameters=parameters,
        sections=memories.sections(),
        input=lowered.input,
        results=-(-classes // parameters.requantizers),
        classes=classes,
        logit_scale=graph.logit_scale,
        schedule=tuple(schedule),
        usage={
            "activation_words": lowered.placement.activation_words,
            "value_words": lowered.placement.value_words,
            "result_words": sum(each.fields["tiles"] for each in lowered.nodes[-1][1]) * parameters.groups,
        },
    )


def _check_image(graph: IntegerGraph) -> None:
    """Refuse an image whose codes a host cannot make of its pixels, which are levels, by counting."""
    values = named(graph.input_format)
    if not isinstance(values, Uniform):
        raise RefusedError(
            f"layer {graph.nodes[0].name!r}: images must be of a uniform format, not {values.name!r}"
        )


def _scheduled(lowered: Lowered, index: int, parameters: AcceleratorParameters) -> LayerSchedule:
    node, commands = lowered.nodes[index]
    macs = 0
    if isinstance(node, Convolution):
        pixels = commands[0].fields["output_height"] * commands[0].fields["output_width"]
        macs = node.weights.size * pixels
    return LayerSchedule(
        name=node.name,
        commands=len(commands),
        passes=len(commands[0].passes),
        cycles=sum(command.cycles(parameters) for command in commands),
        macs=macs,
        sum_bits=max(each.widest for each in lowered.sums[index]),
        scaled_bits=max(each.scaled for each in lowered.sums[index]),
        weight_words=sum(command.weight_words for command in commands),
        activation_words=lowered.placement.live_activations[index],
        value_words=lowered.placement.live_values[index],
    )
