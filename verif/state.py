"""Generated modules with their state as outputs: for an induction's hypothesis."""

import re
from dataclasses import replace

from gen.verilog import Design

REGISTER = re.compile(r"^  reg (?:\[(\d+):0\] )?(\w+) = ", re.MULTILINE)
MEMORY = re.compile(r"^  reg \[(\d+):0\] (\w+) \[(\d+):0\];", re.MULTILINE)


def with_state(made: Design) -> Design:
    """A flat module with each register as an output ``state_NAME``, each word of a memory ``state_NAME_0`` ….

    Registers that are outputs already stay as they are.
    """
    known = {port["name"] for port in made.description["ports"]}
    states = [(name, name, int(high or 0) + 1) for high, name in REGISTER.findall(made.verilog)]
    for high, name, last in MEMORY.findall(made.verilog):
        states += [(f"{name}_{i}", f"{name}[{i}]", int(high) + 1) for i in range(int(last) + 1)]
    verilog, ports = made.verilog, list(made.description["ports"])
    for name, value, width in states:
        if name not in known:
            port = f"state_{name}"
            body = f"  output [{width - 1}:0] {port};\n  assign {port} = {value};\nendmodule"
            verilog = verilog.replace(");\n", f", {port});\n", 1).replace("endmodule", body, 1)
            ports.append({"name": port, "direction": "output", "width": width, "signed": False})
    return replace(made, verilog=verilog, description={**made.description, "ports": ports})
