"""values.yaml with its comments: what the chart's schema and the table in its README are made of.

The comment right above a key describes it; a line `# @schema {...}` in it, as JSON or YAML, adds to its schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_MARK = "@schema "
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


@dataclass(slots=True)
class Value:
    """One key. `children`: those of a mapping written over several lines; one on a single line is a whole."""

    path: str
    default: Any
    description: str
    constraints: dict[str, Any]
    children: dict[str, Value] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        """JSON schema: mappings with children take no other keys; the type is that of the default."""
        described = {"description": self.description} if self.description else {}
        if self.children:
            return described | closed({name: child.schema() for name, child in self.children.items()})
        return described | {"type": _TYPES[type(self.default)]} | self.constraints

    def leaves(self) -> list[Value]:
        """Itself, or all that is below it, in order."""
        if not self.children:
            return [self]
        return [leaf for child in self.children.values() for leaf in child.leaves()]


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object that has no properties but these."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def read_values(file: Path) -> dict[str, Value]:
    """The top-level keys of a values file, in order."""
    text = file.read_text()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return _children(root, "", text.splitlines())


def _children(mapping: yaml.MappingNode, prefix: str, lines: list[str]) -> dict[str, Value]:
    found = {}
    for key, node in mapping.value:
        comment = _comment_above(key.start_mark.line, key.start_mark.column, lines)
        text = [line for line in comment if not line.startswith(_MARK)]
        constraints: dict[str, Any] = {}
        for line in comment:
            if line.startswith(_MARK):
                constraints |= yaml.safe_load(line.removeprefix(_MARK))
        path = f"{prefix}{key.value}"
        value = Value(path, _plain(node), " ".join(text), constraints)
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            value.children = _children(node, f"{path}.", lines)
        found[key.value] = value
    return found


def _comment_above(line: int, column: int, lines: list[str]) -> list[str]:
    """The lines of the comment that ends right above `line`, at the same column, without their marks."""
    comment: list[str] = []
    mark = " " * column + "#"
    while line > 0 and lines[line - 1].startswith(mark):
        line -= 1
        comment.insert(0, lines[line][len(mark) :].strip())
    return comment


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))
