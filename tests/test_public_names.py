"""The names that users may rely on."""

from __future__ import annotations

import tci_kernel


def test_public_names_are_these() -> None:
    """`tci_kernel.__all__` changes only on purpose, and each name is there."""
    assert tci_kernel.__all__ == ["Settings", "TCIClient", "TCIError", "run"]
    assert all(getattr(tci_kernel, name) for name in tci_kernel.__all__)
