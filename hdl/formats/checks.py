"""One way to refuse a parameter: the name, what it must be, and what it was."""


def check_int(name: str, value: object, *, low: int, high: int | None = None) -> None:
    """Refuse a value that is not an integer in ``low … high`` (no upper bound if `high` is None).

    Raises
    ------
    TypeError
        If `value` is not an integer (a bool is not one).
    ValueError
        If `value` lies outside the range.
    """
    bound = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be {bound}, not {value!r}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} must be {bound}, not {value!r}")


def check_bool(name: str, value: object) -> None:
    """Refuse a value that is not a bool (TypeError)."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {value!r}")
