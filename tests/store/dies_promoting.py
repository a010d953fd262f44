"""Promote an upgrade and die by SIGKILL right before, or right after, its transaction is committed."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from nearlight.store import Store, other_spaces
from nearlight.store.upgrade_job import update_job
from tests.store.two_models import DIMS, fill, point, target


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    store = Store.open(Path(sys.argv[1]), n_threads=1)
    made = store.create_collection("c", space_id="old", dim=DIMS["old"], keeps_originals=True)
    made.upsert([point(made, f"p{i}", f"text {i}") for i in range(30)])
    store.upgrades.start("c", target("new"))
    fill(store, "c", "new")
    if sys.argv[2] == "before":

        def write_and_die(*given: Any) -> None:
            update_job(*given)
            die()

        vars(other_spaces)["update_job"] = write_and_die
    else:
        store.upgrades._spaces._adopt = die  # the first that is told of the commit
    store.upgrades.promote("c")


if __name__ == "__main__":
    main()
