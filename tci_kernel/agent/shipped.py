"""What the loader ships in the place of this module: the agent's version, the child's sources."""

from __future__ import annotations

VERSION = ""
#: The child's modules by name, in the order in which they run.
CHILD: list[tuple[str, str]] = []
