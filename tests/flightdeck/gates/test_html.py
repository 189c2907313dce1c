"""The page is inert: whatever a notebook's output holds, nothing of it runs and nothing is fetched."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from flightdeck.gates.html import POLICY, write_html


def test_scripts_are_taken_out_and_a_policy_forbids_the_rest(tmp_path: Path) -> None:
    crafted = "<b>seen</b><script>alert(1)</script><SCRIPT src='https://evil'></script ><img src=x onerror='alert(2)'>"
    output = new_output("display_data", data={"text/html": crafted})
    cells = [new_markdown_cell("# Title"), new_code_cell("secret_code()", outputs=[output])]
    nbformat.write(new_notebook(cells=cells), tmp_path / "n.ipynb")
    write_html(tmp_path / "n.ipynb", tmp_path / "n.html", title="A <title>")
    page = (tmp_path / "n.html").read_text()
    assert "<b>seen</b>" in page
    assert "alert(1)" not in page
    assert "<script" not in page.lower()
    assert "secret_code" not in page
    assert page.index(POLICY) < page.index("<title>A &lt;title&gt;")
    assert "script-src" not in POLICY
    assert "default-src 'none'" in POLICY
