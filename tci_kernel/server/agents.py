"""Sessions that are handed out with the live transport's agent, and its child, running.

To the server this is a cell like any other; a kernel's own boot request then finds the agent.
`transport.requests` is what writes that cell, and imports nothing of the kernel's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tci_kernel.server.kernels import Died, StartFailed
from tci_kernel.transport.requests import LIMIT, BootOptions, boot

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from tci_kernel.server.kernels import Kernel

    Start = Callable[[], Coroutine[Any, Any, Kernel]]


def with_agent(start: Start) -> Start:
    """Return a start after which the agent runs, where it can: else it says so when it is asked."""

    async def start_with_agent() -> Kernel:
        kernel = await start()
        try:
            await kernel.run(boot(BootOptions(relay="nobody")).code, LIMIT)
        except Died as died:
            await kernel.end()
            raise StartFailed(f"A session's kernel did not start: {died}.") from None
        except BaseException:
            await kernel.end()
            raise
        return kernel

    return start_with_agent
