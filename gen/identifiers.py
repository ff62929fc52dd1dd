"""Names that Verilog and SystemVerilog tools accept without escaping."""

import re

_KEYWORDS = """
accept_on alias always always_comb always_ff always_latch and assert assign assume automatic before begin
bind bins binsof bit break buf bufif0 bufif1 byte case casex casez cell chandle checker class clocking
cmos config const constraint context continue cover covergroup coverpoint cross deassign default defparam
design disable dist do edge else end endcase endchecker endclass endclocking endconfig endfunction
endgenerate endgroup endinterface endmodule endpackage endprimitive endprogram endproperty endsequence
endspecify endtable endtask enum event eventually expect export extends extern final first_match for force
foreach forever fork forkjoin function generate genvar global highz0 highz1 if iff ifnone ignore_bins
illegal_bins implements implies import incdir include initial inout input inside instance int integer
interconnect interface intersect join join_any join_none large let liblist library local localparam logic
longint macromodule matches medium modport module nand negedge nettype new nexttime nmos nor
noshowcancelled not notif0 notif1 null or output package packed parameter pmos posedge primitive priority
program property protected pull0 pull1 pulldown pullup pulsestyle_ondetect pulsestyle_onevent pure rand
randc randcase randsequence rcmos real realtime ref reg reject_on release repeat restrict return rnmos
rpmos rtran rtranif0 rtranif1 s_always s_eventually s_nexttime s_until s_until_with scalared sequence
shortint shortreal showcancelled signed small soft solve specify specparam static string strong strong0
strong1 struct super supply0 supply1 sync_accept_on sync_reject_on table tagged task this throughout time
timeprecision timeunit tran tranif0 tranif1 tri tri0 tri1 triand trior trireg type typedef union unique
unique0 unsigned until until_with untyped use uwire var vectored virtual void wait wait_order wand weak
weak0 weak1 while wildcard wire with within wor xnor xor
"""
KEYWORDS = frozenset(_KEYWORDS.split())


def check_identifier(name: str, value: object) -> None:
    """Refuse a value that is not a plain Verilog identifier.

    Raises
    ------
    TypeError
        If `value` is not a string.
    ValueError
        If it is not a letter or underscore followed by letters, digits and underscores, or is a keyword.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
        raise ValueError(f"{name} must be letters, digits and underscores, not first a digit, not {value!r}")
    if value in KEYWORDS:
        raise ValueError(f"{name} must not be a keyword of Verilog or SystemVerilog, not {value!r}")


def plain(text: str) -> str:
    r"""`text` with every escaped identifier (``\a.b$3 ``) given a plain, still unique name.

    One escaped name becomes one plain name wherever it stands, so that instances still meet their modules.
    """
    escaped = list(dict.fromkeys(re.findall(r"\\(\S+) ", text)))
    taken = set(re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text)) | KEYWORDS
    names: dict[str, str] = {}
    for name in escaped:
        stem = re.sub(r"[^A-Za-z0-9]+", "_", _without_origin(name)).strip("_") or "net"
        stem = stem if stem[0].isalpha() else f"net_{stem}"
        candidate, suffix = stem, 1
        while candidate in taken:
            suffix += 1
            candidate = f"{stem}_{suffix}"
        taken.add(candidate)
        names[name] = candidate
    return re.sub(r"\\(\S+) ", lambda match: names[match[1]], text)


def _without_origin(name: str) -> str:
    """An automatic name without the place in Yosys' source that made it: file, line and function."""
    return re.sub(r"\$auto\$(\w+)\.cc:\d+:\w+\$", r"\1_", name).replace("procmux", "mux")
