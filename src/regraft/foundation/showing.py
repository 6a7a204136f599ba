"""How objects show themselves in a notebook: tables and texts as HTML, without a style of their own."""

from collections.abc import Sequence
from html import escape

from regraft.foundation.wording import one_line

MOST_ROWS = 40


def html_text(text: str) -> str:
    """A text as a terminal shows it, each character as wide as any other."""
    return f'<pre style="line-height:1.3">{escape(text)}</pre>'


def html_table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a caption; of many rows the first and the last ones."""
    shown = [_row_of(row) for row in rows]
    if len(rows) > MOST_ROWS:
        half = MOST_ROWS // 2
        between = f'<tr><td colspan="{len(headings)}">… {len(rows) - 2 * half:,} more</td></tr>'
        shown = [*shown[:half], between, *shown[-half:]]
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return (
        f'<table><caption style="text-align:left">{escape(one_line(caption))}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(shown)}</tbody></table>"
    )


def _row_of(cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<td>{escape(one_line(str(cell)))}</td>' for cell in cells)}</tr>"
