"""The page at /docs, written from the OpenAPI document: no script or style comes from anywhere else."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Schema = Mapping[str, Any]
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
code,pre,textarea{font:13px/1.45 ui-monospace,monospace}
pre,textarea{background:#f4f6f8;padding:.75rem;border-radius:6px}
pre{overflow:auto;white-space:pre-wrap}
textarea{width:100%;box-sizing:border-box;border:1px solid #c3ccd6;height:20rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}
td,th{border-bottom:1px solid #dde3ea;padding:.35rem .6rem;text-align:left;vertical-align:top}
h2{margin-top:2.5rem}
.method{background:#1c5d99;color:#fff;border-radius:4px;padding:.1rem .5rem}
button{font:inherit;padding:.4rem 1.2rem}
"""
_TRY = """
document.getElementById("send").onclick = async () => {
  const shown = document.getElementById("answer");
  try {
    const answer = await fetch("/v1/predictions", {method: "POST", headers: {"Content-Type": "application/json"},
                                                  body: document.getElementById("body").value});
    const text = await answer.text();
    try { shown.textContent = answer.status + "\\n" + JSON.stringify(JSON.parse(text), null, 2); }
    catch { shown.textContent = answer.status + "\\n" + text; }
  } catch (error) { shown.textContent = String(error); }
};
"""


def render_page(document: Schema) -> str:
    """Return the HTML page for an OpenAPI `document`."""
    example = document["paths"]["/v1/predictions"]["post"]["requestBody"]["content"]["application/json"]["example"]
    title = escape(document["info"]["title"])
    return "".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>",
            f"<link rel=icon href=data:,><style>{_STYLE}</style>",
            f"<h1>{title}</h1>",
            *_prose(document["info"]["description"]),
            '<p>The same as a document for programs: <a href="/openapi.json">/openapi.json</a></p>',
            *_operations(document["paths"]),
            "<h2>Try it</h2><p>On event time, add <code>request_timestamp</code>.</p>",
            f"<textarea id=body aria-label=body>{escape(json.dumps(example, indent=2))}</textarea>",
            "<p><button id=send>Send</button></p><pre id=answer>The answer appears here.</pre>",
            *_schemas(document["components"]["schemas"]),
            f"<script>{_TRY}</script></html>",
        ]
    )


def _prose(text: str) -> Iterator[str]:
    """Yield paragraphs and lists of the little Markdown that descriptions use."""
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        if lines[0].startswith("- "):
            items = "\n".join(lines).removeprefix("- ").split("\n- ")
            yield "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        else:
            yield f"<p>{_inline(' '.join(lines))}</p>"


def _inline(text: str) -> str:
    """Escape a text and turn pairs of ` and ** into elements."""
    safe = escape(text)
    for mark, element in (("`", "code"), ("**", "strong")):
        parts = safe.split(mark)
        safe = parts[0] + "".join(
            f"<{element}>{part}</{element}>" if place % 2 else part for place, part in enumerate(parts[1:], start=1)
        )
    return safe


def _operations(paths: Mapping[str, Schema]) -> Iterator[str]:
    for path, operations in paths.items():
        for method, operation in operations.items():
            yield f"<h2><span class=method>{escape(method.upper())}</span> <code>{escape(path)}</code></h2>"
            yield f"<p>{_inline(operation['summary'])}</p><table><tr><th>status<th>meaning"
            for status, response in operation["responses"].items():
                yield f"<tr><td>{escape(status)}<td>{_inline(response['description'])}"
            yield "</table>"


def _schemas(schemas: Mapping[str, Schema]) -> Iterator[str]:
    for name, schema in schemas.items():
        if "properties" not in schema or name in ("HTTPValidationError", "ValidationError"):
            continue
        required = schema.get("required", [])
        yield f"<h2 id={escape(name)}>{escape(name)}</h2>"
        yield f"<p>{_inline(schema.get('description', ''))}</p><table><tr><th>field<th>type and range<th>meaning"
        for field, rule in schema["properties"].items():
            mark = "" if field in required else " <small>optional</small>"
            example = "".join(f" e.g. <code>{escape(str(value))}</code>" for value in rule.get("examples", [])[:1])
            meaning = _inline(rule.get("description", "")) + example
            yield f"<tr><td><code>{escape(field)}</code>{mark}<td>{_inline(_type(rule))}<td>{meaning}"
        yield "</table>"


def _type(rule: Schema) -> str:
    """Return type and range of a field in words."""
    if "anyOf" in rule:
        return " or ".join(_type(choice) for choice in rule["anyOf"])
    if "$ref" in rule:
        return str(rule["$ref"]).rpartition("/")[2]
    if "enum" in rule:
        return "one of " + ", ".join(f"`{value}`" for value in rule["enum"])
    text = str(rule.get("format") or rule.get("type", "any"))
    if "items" in rule:
        text = f"list of {_type(rule['items'])}"
    bounds = [
        f"{words} {rule[key]}"
        for key, words in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("minItems", "at least"),
            ("maxItems", "at most"),
            ("minLength", "at least"),
            ("maxLength", "at most"),
        )
        if key in rule
    ]
    pattern = f" matching `{rule['pattern']}`" if "pattern" in rule else ""
    return f"{text} {', '.join(bounds)}{pattern}".strip()
