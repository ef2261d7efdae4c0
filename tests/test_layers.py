"""Data flows one way: no module imports from a later one, or in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import speechbrain_scl

PACKAGE = "speechbrain_scl"
# Each line imports from the lines above. A room (a folder) also imports from
# itself; modules that share a line do not know each other.
ORDER = """
errors
files distributed
losses attention balancing samplers
data
evaluation
voices
verifier
release
training
objective
brain
command_line
__main__
"""
PLACES = {
    place: line
    for line, places in enumerate(ORDER.split("\n"))
    for place in places.split()
}
PLACES[""] = 0  # the package's own __init__, which every import runs


def nearest(name, known):
    """The longest beginning of a dotted name that is known."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def imports_of(path):
    """What a module imports of the package, also inside of functions; of dotted
    names below the package ("" is the package)."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            named |= {f"{node.module}.{a.name}" for a in node.names}
    return {
        name.removeprefix(PACKAGE).strip(".")
        for name in named
        if name.split(".")[0] == PACKAGE
    }


def test_imports_go_one_way():
    root = Path(speechbrain_scl.__file__).parent
    paths = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(p for p in parts if p != "__init__")] = path
    graph = {
        module: {nearest(x, paths) for x in imports_of(path)} - {module}
        for module, path in paths.items()
    }
    assert "training.resilience" in graph["brain"]
    assert "evaluation.results" in graph["evaluation.verification"]
    for module, imported in graph.items():
        place = nearest(module, PLACES)
        for above in {nearest(other, PLACES) for other in imported} - {place}:
            assert PLACES[above] < PLACES[place], f"{module} imports {above}"
    TopologicalSorter(graph).prepare()  # an error names a circle
    rooms = {nearest(module, PLACES) for module in graph}
    assert rooms == set(PLACES)
    assert [module for module in graph if not nearest(module, PLACES)] == [""]
