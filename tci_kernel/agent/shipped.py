"""What the loader ships in the place of this module: the agent's version, the child's source."""

VERSION = ""
CHILD = ""
