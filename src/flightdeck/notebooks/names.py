"""Which names a function takes from outside, and which import statements of a notebook give them."""

import ast
import builtins
import symtable
from collections.abc import Iterable


def outside_names(definition: ast.FunctionDef) -> set[str]:
    """Return the names that a function, its defaults, annotations and decorators read and that are not builtins.

    Examples
    --------
    >>> tree = ast.parse("def f(x: Array) -> float: return np.mean(x) + LIMIT")
    >>> sorted(outside_names(tree.body[0]))
    ['Array', 'LIMIT', 'np']
    """
    module = ast.Module([definition], [])
    table = symtable.symtable(ast.unparse(module), "<cell>", "exec")
    used = {
        symbol.get_name()
        for symbol in table.get_symbols()
        if symbol.is_referenced() and symbol.get_name() != definition.name
    }
    used |= {name for child in table.get_children() for name in _globals_of(child)}
    used |= _quoted_annotations(definition)
    return {name for name in used if name != definition.name and not hasattr(builtins, name)}


def imported_names(trees: Iterable[ast.Module]) -> dict[str, ast.stmt]:
    """Return for each name that top-level imports bind the import statement of that name alone; a later one wins."""
    bound: dict[str, ast.stmt] = {}
    for tree in trees:
        for statement in tree.body:
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    bound[alias.asname or alias.name.partition(".")[0]] = ast.Import([alias])
            elif isinstance(statement, ast.ImportFrom):
                for alias in statement.names:
                    bound[alias.asname or alias.name] = ast.ImportFrom(statement.module, [alias], statement.level)
    return bound


def top_level_names(tree: ast.Module) -> set[str]:
    """Return the names that a module binds at its top level."""
    table = symtable.symtable(ast.unparse(tree), "<module>", "exec")
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()} | {
        item.name for item in tree.body if isinstance(item, ast.FunctionDef | ast.ClassDef)
    }


def module_of(statement: ast.stmt) -> str:
    """Return the module that an import statement of one name reads."""
    if isinstance(statement, ast.ImportFrom):
        return statement.module or ""
    return statement.names[0].name if isinstance(statement, ast.Import) else ""


def _globals_of(table: symtable.SymbolTable) -> set[str]:
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return own | {name for child in table.get_children() for name in _globals_of(child)}


def _quoted_annotations(definition: ast.FunctionDef) -> set[str]:
    """Return the names inside annotations that are written as text."""
    annotations = [argument.annotation for argument in ast.walk(definition.args) if isinstance(argument, ast.arg)]
    quoted = [
        part.value
        for annotation in (*annotations, definition.returns)
        if annotation is not None
        for part in ast.walk(annotation)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    names: set[str] = set()
    for text in quoted:
        try:
            parsed = ast.parse(text, mode="eval")
        except SyntaxError:
            continue
        names |= {node.id for node in ast.walk(parsed) if isinstance(node, ast.Name)}
    return names
