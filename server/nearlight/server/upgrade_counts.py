"""How far upgrades are, for those who ask all the time: callers that wait, and the figures of the server."""

import threading
import time

from nearlight.store import Counts, Upgrade, Upgrades

# Counting looks at every point; those who ask all the time get what was counted a little while ago.
FRESH_SECONDS = 0.2
FRESH_FOR_COST = 10.0


class UpgradeCounts:
    """Counts, and remembers for a while; any thread may ask."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int], tuple[float, Counts]] = {}
        self._counting = threading.Lock()

    def of(self, upgrades: Upgrades, name: str, upgrade: Upgrade, *, is_fresh: bool = False) -> Counts:
        """How far an upgrade is; may look at every point, and so blocks.

        Args:
            upgrades: of the store.
            name: of the collection.
            upgrade: of it.
            is_fresh: counts in any case.
        """
        key = (name, upgrade.job_no)
        with self._counting:
            began = time.monotonic()
            until, counts = self._counted.get(key, (0.0, None))
            if counts is None or is_fresh or began >= until:
                counts = upgrades.counts(name)
                ended = time.monotonic()
                fresh_s = max(FRESH_SECONDS, FRESH_FOR_COST * (ended - began))
                self._counted[key] = ended + fresh_s, counts
            return counts
