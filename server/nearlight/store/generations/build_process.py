"""The process that builds: the order on stdin, what was built on stdout, what went wrong on stderr.

It runs at the lowest priority, within a memory budget, and does not outlive the process that started it.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import asdict

_PR_SET_PDEATHSIG = 1
_SLACK_BYTES = 512 * 2**20  # stacks of threads, pools of the libraries


def main() -> int:
    """Build what stdin orders."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(19)
    from nearlight.store.errors import StoreError
    from nearlight.store.generations.building import BuildOrder, build

    order = BuildOrder.from_json(sys.stdin.read())
    if os.getppid() != parent:  # it died before we asked to be told
        return 1
    limit = order.budget_bytes + _SLACK_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        built = build(order)
    except MemoryError:
        print(f"it needs more memory than the budget of {order.budget_bytes} bytes", file=sys.stderr)
        return 1
    except (StoreError, OSError, RuntimeError) as error:  # RuntimeError: FAISS's
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(built)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
