"""From generated hardware to devices: synthesis and what the netlist holds."""
