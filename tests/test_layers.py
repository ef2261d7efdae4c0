"""Data flows one way: no module imports from a later one, or in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
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


def imports_of(sources):
    """Module -> the modules it imports, also inside of functions; of dotted
    names below the package ("" is the package) -> text."""
    graph = {}
    for module, text in sources.items():
        named = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: a relative import"
                named |= {f"{node.module}.{a.name}" for a in node.names}
        graph[module] = {
            nearest(name.removeprefix(PACKAGE).strip("."), sources)
            for name in named
            if name.split(".")[0] == PACKAGE
        } - {module}
    return graph


def nearest(name, known):
    """The longest beginning of a dotted name that is known."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def faults(graph):
    """What contradicts the order, in words."""
    found = []
    for module, imported in graph.items():
        place = nearest(module, PLACES)
        if module and not place:
            found.append(f"{module} has no place")
        for other in imported:
            above = nearest(other, PLACES)
            if above != place and PLACES[above] >= PLACES[place]:
                found.append(f"{module} imports {other}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("a circle: " + " <- ".join(error.args[1]))
    return found


def test_imports_go_one_way():
    root = Path(speechbrain_scl.__file__).parent
    sources = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(p for p in parts if p != "__init__")
        sources[name] = path.read_text(encoding="utf-8")
    graph = imports_of(sources)
    assert "training.resilience" in graph["brain"]
    assert "evaluation.results" in graph["evaluation.verification"]
    assert faults(graph) == []
    rooms = {nearest(module, PLACES) for module in graph}
    assert rooms == set(PLACES)
