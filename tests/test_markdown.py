"""Tables in Markdown, and the places of documents that hold them."""

import pytest

from hdl.console import RefusedError
from hdl.markdown import fill, table

TABLES = {"first": "first: {}".format, "second": "second: {}".format}


def test_columns_are_aligned_to_the_left_or_right():
    rows = [("a", 1), ("b", 2)]
    assert table(("x", "y"), rows) == "| x | y |\n| --- | --- |\n| a | 1 |\n| b | 2 |"
    assert table(("x", "y"), rows[:1], left=1) == "| x | y |\n| --- | ---: |\n| a | 1 |"


def test_only_what_lies_between_markers_is_made_anew():
    text = (
        "a\n<!-- k -->\nold\nlines\n<!-- /k -->\n<!-- k: second -->\n<!-- /k -->\n"
        "<!-- other -->\nkept\n<!-- /other -->\n"
    )
    assert fill(text, "k", TABLES, 5) == (
        "a\n<!-- k -->\nfirst: 5\n<!-- /k -->\n<!-- k: second -->\nsecond: 5\n<!-- /k -->\n"
        "<!-- other -->\nkept\n<!-- /other -->\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- k: third -->\n<!-- /k -->\n", "<!-- k: third --> must name one of first, second"),
        ("<!-- k -->\n", "there is no <!-- k --> … <!-- /k --> to write a table to"),
    ],
)
def test_markers_that_nothing_fills_are_refused(text, message):
    with pytest.raises(RefusedError, match=f"^{message}$"):
        fill(text, "k", TABLES, 5)
