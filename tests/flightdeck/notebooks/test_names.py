import ast

import pytest

from flightdeck.notebooks.names import imported_names, outside_names, top_level_names


def names_of(source: str) -> set[str]:
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    return outside_names(function)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a): return len(a)", set()),
        ("def f(a): return f(a)", set()),
        ("def f(a):\n    b = a\n    return [c for c in b if c]", set()),
        ("def f(a):\n    def g(x): return x + k\n    return g(a)", {"k"}),
        ("def f(a):\n    import os\n    return os.getcwd()", set()),
        ("def f(a):\n    global g\n    g = a", {"g"}),
        ("def f(a=start): return a", {"start"}),
        ("@wrap(1)\ndef f(a): return a", {"wrap"}),
        ("def f(a: 'pd.Series[int]') -> 'Out': return a", {"pd", "Out"}),
        ("def f(a: 'not a type!'): return a", set()),
        ("def f(*, a: T, **rest: U): return a", {"T", "U"}),
        ("def f(a): return lambda x: x + outer", {"outer"}),
    ],
)
def test_names_from_outside(source: str, expected: set[str]) -> None:
    assert names_of(source) == expected


def test_imports_are_split_by_name_and_the_later_wins() -> None:
    tree = ast.parse("import a.b\nimport c as d, e\nfrom f import g as h, i\nimport j as i")
    texts = {name: ast.unparse(statement) for name, statement in imported_names([tree]).items()}
    assert texts == {
        "a": "import a.b",
        "d": "import c as d",
        "e": "import e",
        "h": "from f import g as h",
        "i": "import j as i",
    }


def test_a_module_binds_what_it_imports_assigns_and_defines() -> None:
    tree = ast.parse("import a\nb: int = 1\ndef c(): pass\nclass D: pass\nfor e in (): pass")
    assert top_level_names(tree) == {"a", "b", "c", "D", "e"}
