"""What the executor makes of a packed graph, against the integer reference, tensor by tensor."""

import numpy as np
import torch

from hdl.parameters import AcceleratorParameters
from sw.compiler.compile import compile_network, lower
from sw.executor import Instruction, Machine, Memories, codes_of, put_codes, values_of
from sw.graph import IntegerGraph
from tests.random_networks import random_images
from verif.reference import run as run_reference


def check_executor(graph: IntegerGraph, parameters: AcceleratorParameters) -> None:
    """Every tensor of every node, in the graph's order of channels."""
    images = random_images(np.random.default_rng(3), graph.input_shape, count=2)
    expected = run_reference(graph, torch.from_numpy(images))
    lowered, machine = lower(graph, parameters), Machine(compile_network(graph, parameters))
    ends = np.cumsum([len(commands) for _, commands in lowered.nodes]) - 1
    nodes, seen = dict(zip(ends.tolist(), graph.nodes, strict=True)), []

    def compare(instruction: Instruction, memories: Memories) -> None:
        node = nodes.get(instruction.index)
        for tensor in () if node is None else (each.tensor for each in node.encodings):
            found = codes_of(memories, lowered.placement.codes[tensor])
            torch.testing.assert_close(found.long(), expected.codes[tensor], rtol=0, atol=0)
            before = memories.codes.clone()
            put_codes(memories, lowered.placement.codes[tensor], found)
            assert torch.equal(memories.codes, before)
            seen.append(tensor)
        if node is not None and node.values is not None:
            found = values_of(memories, lowered.placement.values[node.values])
            torch.testing.assert_close(found.long(), expected.values[node.values], rtol=0, atol=0)
            seen.append(node.values)

    np.testing.assert_array_equal(machine.run(images, observe=compare), expected.logits.numpy())
    assert sorted(seen) == sorted([*expected.codes, *expected.values])
