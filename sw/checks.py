"""One way to refuse a real number, as `hdl.formats.checks` has for integers."""


def check_positive(name: str, value: object) -> None:
    """Refuse a value that is not a positive, finite number.

    Raises
    ------
    TypeError
        If `value` is not a number (a bool is not one).
    ValueError
        If it is not above 0, or infinite.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a positive number, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be a positive number, not {value!r}")
