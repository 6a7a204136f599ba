"""Objects in a notebook."""

from regraft.foundation.showing import MOST_ROWS, html_table, html_text


def test_what_comes_from_files_is_text_and_no_markup():
    """Names of layers and files."""
    table = html_table("<b>", ["<i>"], [["<script>", 1], ["a\nb", 2]])
    assert "<script>" not in table
    assert "<td>&lt;script&gt;</td><td>1</td>" in table
    assert "a\\u000ab" in table
    assert html_text("a < b\n  c") == '<pre style="line-height:1.3">a &lt; b\n  c</pre>'


def test_of_many_rows_the_first_and_the_last_are_shown():
    """And how many are between them."""
    table = html_table("", ["n"], [[number] for number in range(100)])
    assert table.count("<tr>") == MOST_ROWS + 2  # with the headings and the line between
    assert "… 60 more" in table
    assert "<td>99</td>" in table
    assert "more" not in html_table("", ["n"], [[1]] * MOST_ROWS)
