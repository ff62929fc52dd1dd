"""The papers' tables once more: what our formulas give beside what is printed, entry by entry."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from ..architectures import architecture
from . import fixops, published, sizes
from .entry import Entry, Table
from .published import Printed

LABELS = {
    "resnet18": "ResNet-18",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "mobilenet_v2": "MobileNetV2",
}


TEXT_REASON = (
    "the text counts a shift-add for each of a weight's n terms, but the printed values follow 0.75 times "
    "the uniform count (powers of two: 0.70 times)"
)
_MISPRINT = (
    "198 M is the text's formula n·a/64, which no other row follows, or a misprint of the 298 M of the row "
    "with normalization"
)
_ALLOCATION = (
    "average bits do not give it, since layers differ in multiply-accumulates, and no bits by layer are "
    "printed; the printed value means that w·a is {product} for the mean multiply-accumulate"
)
_ALQ = "ALQ's count, which is not known; the row of DMBQ repeats the row of ALQ beside it"
REASONS = {
    (
        "apot1-fixops",
        "ResNet-50 real 32/32",
    ): "4.14 G is more than multiply-accumulates alone, 4.09 G",
    ("apot3-fixops", "ResNet-18 APoT without WN 3/3"): _MISPRINT,
    ("dmbq-fixops", "ResNet-18 DMBQ+LBA 2.0/2.0"): _ALLOCATION.format(product="6.77"),
    ("dmbq-fixops", "ResNet-18 DMBQ+LBA 3.0/3.0"): _ALLOCATION.format(product="11.12"),
    ("dmbq-sizes", "ResNet-18 HAWQ -"): "no average of bits is printed",
    ("dmbq-sizes", "ResNet-18 ALQ 1.0/32"): _ALQ,
    ("dmbq-sizes", "ResNet-18 DMBQ 1.0/32"): _ALQ,
    ("dmbq-sizes", "ResNet-18 ALQ 1.0/2"): _ALQ,
    ("dmbq-sizes", "ResNet-18 DMBQ 1.0/2.0"): _ALQ,
    ("dmbq-sizes", "ResNet-34 ALQ 2.0/2"): _ALQ,
    ("dmbq-sizes", "ResNet-34 DMBQ 2.0/2.0"): _ALQ,
    ("dmbq-sizes", "ResNet-34 ALQ 1.0/2"): _ALQ,
    ("dmbq-sizes", "ResNet-34 DMBQ 1.0/2.0"): _ALQ,
    ("lcq-tables", "MobileNetV2 4/4"): "the paper counts 52 layers; 51 convolutions are quantized",
}
"""Entries known to differ, by table and name, under the formula that fits the other entries."""

_PRINTED_RULES = {
    "real": fixops.REAL,
    "Lloyd": fixops.REAL,
    "uniform": fixops.UNIFORM,
    "PACT+SAWB": fixops.UNIFORM,
    "APoT": fixops.APOT_PRINTED,
    "APoT without WN": fixops.APOT_PRINTED,
    "PoT": fixops.POT_PRINTED,
}
_TEXT_RULES = {
    "APoT": fixops.APOT_TEXT,
    "APoT without WN": fixops.APOT_TEXT,
    "PoT": fixops.POT_TEXT,
}


def _name(network: str, *words: object) -> str:
    return " ".join(map(str, (LABELS[network], *words)))


def _apot_fixops(rows: tuple[published.Row, ...]) -> Iterator[Entry]:
    for row in rows:
        real_shortcuts = row.method == "PACT+SAWB"
        for rule in (_PRINTED_RULES[row.method], _TEXT_RULES.get(row.method)):
            if rule:
                ours = fixops.network_fixops(
                    architecture(row.network), rule, row.bits, row.bits, real_shortcuts=real_shortcuts
                )
                yield Entry(
                    name=_name(row.network, row.method, f"{row.bits}/{row.bits}"),
                    formula=rule.formula + (", shortcuts 1" if real_shortcuts else ""),
                    ours=ours,
                    printed=Printed(row.fixops),
                )


def _size(
    name: str,
    network: str,
    count: sizes.Count,
    bits: Fraction | int,
    size: str,
    *,
    real_shortcuts: bool = False,
) -> Entry:
    ours = sizes.model_bytes(architecture(network), count, bits, real_shortcuts=real_shortcuts)
    formula = count.formula + (", shortcuts 32" if real_shortcuts else "")
    return Entry(name=name, formula=formula, ours=ours, printed=Printed(size))


def _real_size(name: str, network: str, size: str) -> Entry:
    ours = Fraction(sizes.real_bytes(architecture(network)))
    return Entry(name=name, formula="every parameter 32", ours=ours, printed=Printed(size))


def _apot_sizes(rows: tuple[published.Row, ...], *, one_count: bool) -> Iterator[Entry]:
    """With `one_count`, every row has the first and last layer at 8 bits, as the authors' own networks do."""
    for row in rows:
        name = _name(row.network, row.method, f"{row.bits}/{row.bits}")
        if row.method == "real":
            yield _real_size(name, row.network, row.size)
        else:
            count = sizes.APOT_OWN if one_count or row.method == "APoT" else sizes.APOT_OTHERS
            real_shortcuts = row.method == "PACT+SAWB"
            yield _size(name, row.network, count, row.bits, row.size, real_shortcuts=real_shortcuts)


def _dmbq_fixops() -> Iterator[Entry]:
    network = architecture("resnet18")
    for row in published.DMBQ_TABLE_2:
        rule = fixops.REAL if row.method == "real" else fixops.UNIFORM
        bits = int(float(row.bits.partition("/")[0]))
        ours = fixops.network_fixops(network, rule, bits, bits)
        name = _name("resnet18", row.method, row.bits)
        yield Entry(name=name, formula=rule.formula, ours=ours, printed=Printed(row.fixops))
    cost = fixops.network_fixops(network, fixops.UNIFORM, 4, 4)
    allocated = Printed(next(row.fixops for row in published.DMBQ_TABLE_2 if row.bits == "3.0/3.0")).value
    for words, below, formula, printed in (
        ("DMBQ 4/4 speed-up", cost, "MACs / FixOPs", published.DMBQ_SPEEDUP_4_4),
        ("DMBQ+LBA 3.0/3.0 speed-up", allocated, "MACs / printed 413 M", published.DMBQ_SPEEDUP_LBA_3_3),
    ):
        ours = network.macs / Fraction(below)
        yield Entry(name=_name("resnet18", words), formula=formula, ours=ours, printed=Printed(printed))


def _dmbq_sizes() -> Iterator[Entry]:
    for row in published.DMBQ_POSTER:
        name = _name(row.network, row.method, row.bits)
        if row.method == "real":
            yield _real_size(name, row.network, row.size)
        elif row.bits == "-":
            yield Entry(name=name, formula="", ours=None, printed=Printed(row.size))
        else:
            starred = sizes.DMBQ_STARRED if row.method.endswith("*") else sizes.DMBQ
            count = {"APoT": sizes.APOT_OWN, "INQ": sizes.INQ}.get(row.method, starred)
            yield _size(name, row.network, count, Fraction(row.bits.partition("/")[0]), row.size)


def _dmbq_coordinates() -> Iterator[Entry]:
    from .coordinates import coordinate_entries

    return coordinate_entries()


def _dmbq_errors() -> Iterator[Entry]:
    from .coordinates import error_entries

    return error_entries()


def _lcq_tables() -> Iterator[Entry]:
    for row in published.LCQ_TABLE_S1:
        ours = Fraction(sizes.lookup_bytes(architecture(row.network), row.bits, row.bits))
        name = _name(row.network, f"{row.bits}/{row.bits}")
        yield Entry(name=name, formula="2·layers·pairs", ours=ours, printed=Printed(row.tables))


def _lcq_sizes() -> Iterator[Entry]:
    for network, size in published.LCQ_REAL.items():
        yield _real_size(_name(network, "real 32/32"), network, size)
    for row in published.LCQ_TABLE_S1:
        bits = f"{row.bits}/{row.bits}"
        yield _size(
            _name(row.network, "without tables", bits), row.network, sizes.LCQ, row.bits, row.without_tables
        )
        tables = sizes.lookup_bytes(architecture(row.network), row.bits, row.bits)
        with_tables = _size(
            _name(row.network, "with tables", bits), row.network, sizes.LCQ, row.bits, row.with_tables
        )
        yield replace(with_tables, ours=(with_tables.ours or 0) + Fraction(tables))


_LEGEND = " (formula: bits of a weight in the first and last layer, real values a normalized channel)"
_SOURCES: dict[str, tuple[str, str, Callable[[], Iterator[Entry]]]] = {
    "apot1-fixops": (
        "FixOPs of ResNets on ImageNet",
        f"{published.APOT}, Table 1",
        lambda: _apot_fixops(published.APOT_TABLE_1),
    ),
    "apot1-sizes": (
        f"Model sizes of ResNets on ImageNet{_LEGEND}",
        f"{published.APOT}, Table 1",
        lambda: _apot_sizes(published.APOT_TABLE_1, one_count=False),
    ),
    "apot3-fixops": (
        "FixOPs of the quantizers compared",
        f"{published.APOT}, Table 3",
        lambda: _apot_fixops(published.APOT_TABLE_3),
    ),
    "apot3-sizes": (
        f"Model sizes of the quantizers compared{_LEGEND}",
        f"{published.APOT}, Table 3",
        lambda: _apot_sizes(published.APOT_TABLE_3, one_count=True),
    ),
    "dmbq-fixops": ("FixOPs of multi-bit bases", f"{published.DMBQ}, supplement, Table 2", _dmbq_fixops),
    "dmbq-coordinates": (
        "Coordinates of multi-bit bases",
        f"{published.DMBQ}, supplement",
        _dmbq_coordinates,
    ),
    "dmbq-errors": (
        "Expected error of multi-bit bases",
        f"{published.DMBQ}, supplement, prints no errors: as the paper's stands that of its coordinates",
        _dmbq_errors,
    ),
    "dmbq-sizes": (f"Model sizes on ImageNet{_LEGEND}", f"{published.DMBQ}, poster", _dmbq_sizes),
    "lcq-tables": ("Bytes of the lookup tables", f"{published.LCQ}, supplement, Table S1", _lcq_tables),
    "lcq-sizes": (f"Model sizes on ImageNet{_LEGEND}", f"{published.LCQ}, supplement, Table S1", _lcq_sizes),
}

NAMES = tuple(_SOURCES)


def reproduce(name: str) -> Table:
    """The table of a name in `NAMES`."""
    title, source, entries = _SOURCES[name]
    return Table(
        name=name, title=title, source=source, entries=tuple(_explained(name, entry) for entry in entries())
    )


def _explained(table: str, entry: Entry) -> Entry:
    """The entry with the reason why it differs, if it does and one is known."""
    if entry.accepted or entry.reason:
        return entry
    if entry.formula in {rule.formula for rule in _TEXT_RULES.values()}:
        return entry.because(TEXT_REASON)
    return entry.because(REASONS.get((table, entry.name), ""))
