"""Parts of a report as HTML."""

from __future__ import annotations

from rich.text import Text

from ckptgrad.report.html import STYLE, fragment, to_html
from ckptgrad.report.tables import table_of, two_columns


def test_tables_keep_their_sides_and_escape_their_cells():
    table = table_of("name", "bytes", left=("name",))
    table.add_row("<b>", Text("7 & 8"))
    html = fragment([table])
    assert '<thead><tr><th>name</th><th class="right">bytes</th></tr></thead>' in html
    assert '<tbody><tr><td>&lt;b&gt;</td><td class="right">7 &amp; 8</td></tr></tbody>' in html


def test_a_table_without_headings_has_no_head():
    grid = two_columns()
    grid.add_row("policy", "optimal")
    assert "<thead>" not in fragment([grid])
    assert "<td>policy</td><td>optimal</td>" in fragment([grid])


def test_text_is_a_paragraph_and_a_chart_keeps_its_blanks():
    html = fragment(["a < b", Text("x  y", no_wrap=True), ""], "<img>")
    assert html == '<div class="ckptgrad"><p>a &lt; b</p><pre>x  y</pre><img></div>'
    assert to_html(["a"]) == f'{STYLE}<div class="ckptgrad"><p>a</p></div>'


def test_what_is_bold_stays_so():
    text = Text.assemble(("FAILED: a < b", "bold red"), "\nthe rest")
    assert "<p><strong>FAILED: a &lt; b</strong>\nthe rest</p>" in fragment([text])
