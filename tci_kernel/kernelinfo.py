"""What the kernel is and can: told at once, before anything of a session is known."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import IPython
from ipykernel._version import kernel_protocol_version

KERNEL_INFO: dict[str, Any] = {
    "protocol_version": kernel_protocol_version,
    # What runs a user's code is an IPython, and front ends ask for it by this name.
    "implementation": "ipython",
    "implementation_version": IPython.__version__,
    "language_info": {
        "name": "python",
        "version": platform.python_version(),
        "mimetype": "text/x-python",
        "codemirror_mode": {"name": "ipython", "version": 3},
        "pygments_lexer": "ipython3",
        "nbconvert_exporter": "python",
        "file_extension": ".py",
    },
    "banner": f"TCI Python {version('tci-kernel')}: cells run in a TCI session; see %tci help.\n",
    "help_links": [],
    "supported_features": [],
}
