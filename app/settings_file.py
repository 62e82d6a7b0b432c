"""`deploy/settings.env`: every setting with its comment and default, written from the class that reads them.

`python -m app.settings_file > deploy/settings.env` brings it up to date; a test holds the two together.
"""

from __future__ import annotations

import sys
import textwrap

from app.settings import PREFIX, Settings

_WIDTH = 100
_HEADER = """\
# Every setting of the screener with its default, in the form of `docker run --env-file` and systemd.
# Written by `python -m app.settings_file`; a line that begins with a # and a name has no default.
# Each may be given in a file instead: SCREENER_POSTGRES_URL_FILE=/run/secrets/postgres_url.
"""


def render() -> str:
    """The whole file."""
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
