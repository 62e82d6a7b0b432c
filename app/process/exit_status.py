"""Exit statuses of our processes, for supervisors: systemd, containers, and `app.process.children.supervisor`."""

from __future__ import annotations

from typing import Final

EXIT_UNEXPECTED: Final = 70
"""Something that should not happen (EX_SOFTWARE): start it again; the record will be read again."""
EXIT_TEMPORARY: Final = 75
"""A server did not answer or a send failed (EX_TEMPFAIL): starting again helps once it is back."""
EXIT_CONFIG: Final = 78
"""The setup is wrong (EX_CONFIG): a restart would not help."""
