"""Reads values.yaml with its comments, the source of the chart's schema and of the table in its README.

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
    """One key. `children`: the keys of a mapping over several lines; a mapping on a single line counts as one value."""

    path: str
    default: Any
    description: str
    constraints: dict[str, Any]
    children: dict[str, Value] = field(default_factory=dict)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema: a mapping with children allows no other keys; the type is that of the default."""
        described = {"description": self.description} if self.description else {}
        if self.children:
            return described | closed({name: child.schema() for name, child in self.children.items()})
        return described | {"type": _TYPES[type(self.default)]} | self.constraints

    def leaves(self) -> list[Value]:
        """Return the values without children at or below this key, in order."""
        if not self.children:
            return [self]
        return [leaf for child in self.children.values() for leaf in child.leaves()]


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that allows only these properties."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def read_values(file: Path) -> dict[str, Value]:
    """Return the top-level keys of a values file, in order."""
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
    """Return the lines of the comment that ends right above `line`, at the same column, without their marks."""
    comment: list[str] = []
    mark = " " * column + "#"
    while line > 0 and lines[line - 1].startswith(mark):
        line -= 1
        comment.insert(0, lines[line][len(mark) :].strip())
    return comment


def _plain(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))
