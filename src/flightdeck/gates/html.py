"""The executed gate notebook as one HTML page: no code, no scripts, no network, readable in ten years.

The page shows output of a notebook to a person with the right to approve, so it is inert: scripts are taken out, and a
content security policy forbids what a crafted output might still try.
"""

import re
from pathlib import Path

import nbformat

from flightdeck.core.files import write_atomically

SCRIPT = re.compile(r"<script\b.*?</script\s*>", re.IGNORECASE | re.DOTALL)
POLICY = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:\">"
)
WIDTH = "<style>main, .jp-Notebook { max-width: 1080px; margin: 0 auto; } .jp-OutputPrompt { display: none; }</style>"


def write_html(notebook: Path, page: Path, *, title: str) -> None:
    """Write `notebook` as an HTML page with its images inside and nothing fetched from elsewhere.

    Code stays in the notebook beside it: the page is for the person who decides.
    """
    from nbconvert import HTMLExporter  # 0.4 s that only an executed gate pays

    content = nbformat.read(notebook, as_version=4)
    content.metadata["title"] = title
    exporter = HTMLExporter(
        exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True, embed_images=True
    )
    body, _ = exporter.from_notebook_node(content)
    inert = SCRIPT.sub("", body).replace("<head>", f"<head>{POLICY}", 1).replace("</head>", f"{WIDTH}</head>", 1)
    write_atomically(page, inert.encode())
