"""Where the rules of a YAML text stand: line, column and caret of each fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from app.rules.rule import Fault

_SHOWN_BEFORE: Final = 60
_SHOWN: Final = 100
"""Characters of a line."""
_INDENT: Final = " " * 6


@dataclass(frozen=True, slots=True)
class RulePlaces:
    """The places of one rule in `text`. keys, values: nodes by field, the last of a repeated one. repeated: fields that
    stand there twice. Without a text nothing is known."""

    text: str = ""
    first: int | None = None
    keys: Mapping[str, yaml.Node] = field(default_factory=dict)
    values: Mapping[str, yaml.Node] = field(default_factory=dict)
    repeated: tuple[str, ...] = ()

    def told(self, at: int | None, message: str) -> str:
        """Return the message with line and column of the place, its line, and a caret under it. at: of `index`."""
        if at is None:
            return message
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        return f"line {line}, column {column}: {message}\n{_with_caret(self.text, at)}"

    def index(self, fault: Fault, of_key: bool) -> int | None:
        """Return where in the text the fault is; None if that is unknown. of_key: the field's name is at fault, not its
        value."""
        if of_key and fault.field in self.keys:
            return int(self.keys[fault.field].start_mark.index)
        value = self.values.get(fault.field)
        if value is None:
            return self.first
        if fault.position is not None and isinstance(value, yaml.ScalarNode):
            return _index_in(self.text, value, fault.position)
        return int(value.start_mark.index)


def read_yaml(text: str) -> tuple[Any, list[RulePlaces]]:
    """Return the document, and the places of the rules in its list `rules`. Raises PyYAML's errors."""
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        document = None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()
    return document, _places(text, root)


def _places(text: str, root: yaml.Node | None) -> list[RulePlaces]:
    if not isinstance(root, yaml.MappingNode):
        return []
    for key, value in root.value:
        if key.value == "rules" and isinstance(value, yaml.SequenceNode):
            return [_places_of(text, entry) for entry in value.value]
    return []


def _places_of(text: str, entry: yaml.Node) -> RulePlaces:
    first = int(entry.start_mark.index)
    if not isinstance(entry, yaml.MappingNode):
        return RulePlaces(text, first)
    pairs = [(str(key.value), key, value) for key, value in entry.value]
    counts = Counter(name for name, _, _ in pairs if name != "<<")
    return RulePlaces(
        text,
        first,
        {name: key for name, key, _ in pairs},
        {name: value for name, _, value in pairs},
        tuple(name for name, count in counts.items() if count > 1),
    )


def _index_in(text: str, node: yaml.ScalarNode, position: int) -> int:
    """Return where the character of the scalar's value at this position stands in the text; the scalar's beginning if
    it is written with escapes. Folding changes only white space, so the other characters are counted."""
    start, end = int(node.start_mark.index), int(node.end_mark.index)
    begin = start
    if node.style in ("|", ">"):
        begin = text.find("\n", start, end) + 1
    elif node.style in ("'", '"'):
        begin, end = start + 1, end - 1
    value = str(node.value)
    if "".join(text[begin:end].split()) != "".join(value.split()):
        return start
    before = sum(not character.isspace() for character in value[:position])
    written = [at for at in range(begin, end) if not text[at].isspace()]
    if before < len(written):
        return written[before]
    return written[-1] + 1 if written else start


def _with_caret(text: str, at: int) -> str:
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[begin : end if end >= 0 else len(text)].rstrip()
    line = "".join(character if character.isprintable() else " " for character in line)
    left = max(0, at - begin - _SHOWN_BEFORE)
    return f"{_INDENT}{line[left : left + _SHOWN]}\n{_INDENT}{' ' * (at - begin - left)}^"
