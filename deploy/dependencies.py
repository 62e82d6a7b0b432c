"""Prints what the image installs: `install_requires` of setup.cfg, and the extra `tracing`.

In a cluster each server is given by URL, so the servers of the extra `local` stay out: 71 MB of packages that nobody
would run.
"""

from __future__ import annotations

import configparser
import sys


def image_requirements(setup_cfg: str) -> list[str]:
    """Return the lines of `install_requires` and of the extra `tracing`."""
    config = configparser.ConfigParser()
    config.read_string(setup_cfg)
    lines = config["options"]["install_requires"] + config["options.extras_require"]["tracing"]
    return [line for line in lines.split("\n") if line]


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print("\n".join(image_requirements(file.read())))
