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
    # Those of a local kernel; the session's version of Python is not known yet.
    "help_links": [
        {"text": "Python Reference", "url": "https://docs.python.org/3"},
        {"text": "IPython Reference", "url": "https://ipython.readthedocs.io/en/stable/"},
        {"text": "NumPy Reference", "url": "https://numpy.org/doc/stable/reference/"},
        {"text": "SciPy Reference", "url": "https://docs.scipy.org/doc/scipy/reference/"},
        {"text": "Matplotlib Reference", "url": "https://matplotlib.org/stable/api/"},
        {"text": "SymPy Reference", "url": "https://docs.sympy.org/latest/index.html"},
        {"text": "pandas Reference", "url": "https://pandas.pydata.org/docs/reference/"},
    ],
    # Which there are is the session's matter.
    "supported_features": [],
}
