"""Generates the chart's values.schema.json and the tables in its README, from values.yaml and the class of settings.

`python deploy/helm/schema.py` (`make chart-schema`) writes both; with `--check` it only says whether they are up to
date. So `helm lint` knows the name, type and bounds of every setting in the code.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from annotated_values import Value, closed, read_values

from app.settings import Settings

CHART: Final = Path(__file__).parent / "screener"
_ROLES: Final = re.compile(r'define "screener\.roles" -}}\n(.*?)\n{{- end }}', re.DOTALL)
_MANAGED: Final = frozenset({"bind_host", "data_dir", "kafka_ca_file"})
"""Settings that the chart itself sets, besides the ports."""
_KEPT: Final = ("type", "description", "enum", "pattern", "items", "minimum", "maximum", "minLength")
_KEPT_MORE: Final = ("exclusiveMinimum", "exclusiveMaximum", "maxLength", "default")
_BEGIN, _END = "<!-- {} -->", "<!-- end of {} -->"


def roles_of_the_chart() -> dict[str, dict[str, Any]]:
    """Return role -> its facts, as templates/_roles.tpl lists them."""
    defined = _ROLES.search((CHART / "templates" / "_roles.tpl").read_text())
    assert defined, "templates/_roles.tpl defines no screener.roles"
    return dict(yaml.safe_load(defined[1]))


def setting_schemas() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two mappings of name -> JSON schema: the settings that a user may give as values, and the secret ones."""
    plain: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    for name, schema in Settings.model_json_schema()["properties"].items():
        if name in _MANAGED or name.endswith("_port"):
            continue
        described = _without_null(schema)
        if described.get("format") == "password":
            secret[name] = {"type": "string", "description": described.get("description", "")}
        else:
            plain[name] = {key: described[key] for key in (*_KEPT, *_KEPT_MORE) if key in described}
    return plain, secret


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that does not allow null: an optional value is left out of a values file, not set to null."""
    flat = dict(schema)
    for option in flat.pop("anyOf", []):
        if option.get("type") != "null":
            flat |= option
    if flat.get("default") is None:
        flat.pop("default", None)
    flat["description"] = " ".join(str(flat.get("description", "")).split())
    return flat


def chart_schema(values: Mapping[str, Value]) -> dict[str, Any]:
    plain, secret = setting_schemas()
    properties = {name: value.schema() for name, value in values.items()}
    role = properties["common"]
    for name in ("common", *roles_of_the_chart()):
        description = values[name].description
        properties[name] = {"description": description, "allOf": [{"$ref": "#/definitions/role"}]}
    properties["settings"] |= closed(plain)
    one_key = closed({"name": {"type": "string"}, "key": {"type": "string"}}) | {"required": ["name", "key"]}
    given = properties["secrets"]["properties"]
    given["existingKeys"]["items"] = {"enum": sorted(secret)}
    given["fromSecrets"] |= closed(dict.fromkeys(secret, one_key))
    given["values"] |= closed(secret)
    properties["global"] = {"type": "object", "description": "Where this chart is a part of another."}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the screener's chart",
        **closed(properties),
        "definitions": {"role": {key: part for key, part in role.items() if key != "description"}},
    }


def values_table(values: Mapping[str, Value]) -> str:
    rows = ["| value | what it is for | default |", "|---|---|---|"]
    for name, value in values.items():
        if name == "settings":
            rows.append(f"| `settings.*` | {_cell(value.description)} See below | |")
            continue
        if value.children and value.description:
            rows.append(f"| **`{name}`** | {_cell(value.description)} | |")
        rows += [
            f"| `{leaf.path}` | {_cell(leaf.description)} | {_default(leaf.default)} |"
            for leaf in value.leaves()
        ]
    return "\n".join(rows)


def settings_table(values: Mapping[str, Value]) -> str:
    plain, secret = setting_schemas()
    given = {name: leaf.default for name, leaf in values["settings"].children.items()}
    rows = ["| setting | what it is for | default |", "|---|---|---|"]
    for name, schema in plain.items():
        default = given.get(name, schema.get("default"))
        rows.append(f"| `settings.{name}` | {_cell(schema['description'])} | {_default(default)} |")
    rows += [f"| `secrets.*`: {name} | {_cell(schema['description'])} | |" for name, schema in secret.items()]
    return "\n".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(value: Any) -> str:
    return "" if value in (None, "") else f"`{json.dumps(value, ensure_ascii=False)}`"


def with_section(text: str, name: str, content: str) -> str:
    """Return `text` with the part between the marks of `name` replaced. Raises ValueError without these marks."""
    begin, end = _BEGIN.format(name), _END.format(name)
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the README has no marks {begin} and {end}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def written() -> dict[Path, str]:
    """Return file -> its expected content."""
    values = read_values(CHART / "values.yaml")
    readme = CHART / "README.md"
    text = with_section(readme.read_text(), "values", values_table(values))
    text = with_section(text, "settings", settings_table(values))
    schema = json.dumps(chart_schema(values), indent=2, ensure_ascii=False) + "\n"
    return {CHART / "values.schema.json": schema, readme: text}


def main() -> None:
    check = "--check" in sys.argv
    for file, content in written().items():
        if file.exists() and file.read_text() == content:
            continue
        if check:
            sys.exit(f"{file.relative_to(CHART.parents[2])} is out of date: run `make chart-schema`")
        file.write_text(content)


if __name__ == "__main__":
    main()
