"""`deploy/settings.env`: every setting with its comment and default, generated from the class `Settings`.

`python -m app.settings.env_file > deploy/settings.env` updates it; a test compares the two.
"""

from __future__ import annotations

import sys
import textwrap

from app.settings import PREFIX, Settings

_WIDTH = 100
_HEADER = """\
# Every setting of the screener with its default, in the form of `docker run --env-file` and systemd.
# Written by `python -m app.settings.env_file`; a commented setting has no default.
# Each setting may be in a file instead: SCREENER_POSTGRES_URL_FILE=/run/secrets/postgres_url.
"""


def render() -> str:
    """Return the whole file."""
    defaults = Settings.load({}).model_dump(mode="json")
    blocks = [_HEADER]
    for name, field in Settings.model_fields.items():
        comment = textwrap.wrap(" ".join((field.description or "").split()), _WIDTH - 2)
        value = defaults[name]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        line = f"# {PREFIX}{name.upper()}=" if value is None else f"{PREFIX}{name.upper()}={text}"
        blocks.append("\n".join([*(f"# {part}" for part in comment), line]) + "\n")
    return "\n".join(blocks)


if __name__ == "__main__":
    sys.stdout.write(render())
