"""The local folders that a `%tci` line may touch: the notebook's own and `TCI_FILE_ROOTS`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tci_kernel.errors import FileRefused

if TYPE_CHECKING:
    from tci_kernel.magics.display import Context


@dataclass(frozen=True)
class Roots:
    """The notebook's folder, from which names are read, and all folders that are allowed."""

    here: Path
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, context: Context) -> Roots:
        """Return the roots in force; the kernel's working directory is the notebook's folder."""
        here = Path.cwd()
        configured = context.session.client.settings.file_roots
        return cls(here, tuple(folder.resolve() for folder in (here, *configured)))

    def resolve(self, name: str | Path) -> Path:
        """Return the path that a name stands for, before its links are followed."""
        return self.here / Path(name).expanduser()

    def allow(self, path: Path) -> bool:
        """Tell whether a path lies, its links followed, below one of the folders."""
        real = path.resolve()
        return any(real.is_relative_to(folder) for folder in self.folders)

    def check(self, path: Path) -> None:
        """Raise `FileRefused` for a path that lies elsewhere."""
        if not self.allow(path):
            raise FileRefused(
                f"{path} lies outside the notebook's folder. Nothing was touched. Move it there, "
                "or name its folder in TCI_FILE_ROOTS and restart the kernel."
            )
