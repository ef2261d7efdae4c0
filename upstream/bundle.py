"""One file out of a script and those definitions of a package that it uses."""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "speechbrain_scl"


@dataclass
class Module:
    """A module of the package: its definitions, and where its names are from.

    Arguments
    ---------
    source : str
        Its text.
    """

    source: str
    definitions: dict = field(default_factory=dict)  # name -> (node, text)
    imports: dict = field(default_factory=dict)  # name -> (module, import line)

    def __post_init__(self):
        self.lines = self.source.splitlines(keepends=True)
        for node in ast.parse(self.source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._add_import(node)
            for name in _bound_by(node):
                self.definitions[name] = (node, self.text_of(node))

    def _add_import(self, node):
        module = getattr(node, "module", None)
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            only = type(node)(**{**vars(node), "names": [alias]})
            self.imports[name] = (module, ast.unparse(only))

    def text_of(self, node):
        """With decorators, and the comments right above."""
        first = min([node.lineno, *(d.lineno for d in _decorators(node))])
        while first > 1 and self.lines[first - 2].startswith("#"):
            first -= 1
        return "".join(self.lines[first - 1 : node.end_lineno])


def bundle(script, package_folder, moved, instead=None):
    """Puts what a script imports from the package into its text.

    Arguments
    ---------
    script : str
        Its text. Imports from the package stand at its top level.
    package_folder : Path
        The package's sources.
    moved : dict
        Modules of the package that stay modules, under another name.
    instead : dict or None
        Module of the package -> the file that stands for it.

    Returns
    -------
    str
        Needs the moved modules, and nothing else of the package.

    Raises
    ------
    ValueError
        Two definitions of one name.
    """
    root = Module(script)
    modules, chosen, lines = {}, {}, []

    def find(module):
        if module not in modules:
            path = module.removeprefix(f"{PACKAGE}.").replace(".", "/")
            path = Path(package_folder) / f"{path}.py"
            path = (instead or {}).get(module, path)
            modules[module] = Module(path.read_text("utf-8"))
        return modules[module]

    def need(module, name):
        """A definition, after those that it uses."""
        node, text = find(module).definitions[name]
        if name in chosen:
            if chosen[name] != text:
                raise ValueError(f"{name}: defined twice, the second {module}")
            return
        chosen[name] = text
        used = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
        follow(find(module), module, used)
        # Functions may be used before they are defined: keep the order of need.
        chosen[name] = chosen.pop(name)

    def follow(of, module, names):
        for name in dict.fromkeys(names):
            if name == "UserError":  # see rewrite
                continue
            if name in of.definitions and module is not None:
                need(module, name)
            elif name in of.imports:
                source, line = of.imports[name]
                inside = (source or "").startswith(PACKAGE)
                if inside and source not in moved:
                    need(source, name)
                elif line not in lines:
                    lines.append(line)

    body = ast.parse(script).body
    follow(root, None, [n for n, (m, _) in root.imports.items()])
    imported = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
    start = imported[-1].end_lineno
    head = "".join(root.lines[: imported[0].lineno - 1])
    parts = [
        head + "\n".join(lines),
        *dict.fromkeys(text.rstrip() for text in chosen.values()),
        "".join(root.lines[start:]).strip(),
    ]
    return rewrite("\n\n\n".join(parts) + "\n", moved)


def rewrite(text, moved):
    """The text with the modules' new names, for SpeechBrain's Pythons.

    Arguments
    ---------
    text : str
        Of a module.
    moved : dict
        Module of the package -> its new name.

    Returns
    -------
    str
    """
    # The errors of users are ValueErrors there.
    text = re.sub(
        rf"^from {PACKAGE}\.errors import UserError\n", "", text, flags=re.M
    )
    text = text.replace("UserError", "ValueError")
    for old in sorted(moved, key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(old)}\b", moved[old], text)
    # Examples import what now stands beside them.
    text = re.sub(
        rf"^ *(>>>|\.\.\.) from {PACKAGE}\.\S+ import .*\n",
        "",
        text,
        flags=re.M,
    )
    return re.sub(r",\s*strict=True\)", ")", text)


def _bound_by(node):
    """The names that a statement of a module defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = getattr(node, "targets", [])
    if isinstance(node, ast.Assign):
        return [
            n.id
            for target in targets
            for n in ast.walk(target)
            if isinstance(n, ast.Name)
        ]
    return []


def _decorators(node):
    return getattr(node, "decorator_list", [])
