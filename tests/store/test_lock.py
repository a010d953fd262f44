import os
import subprocess
import sys
from pathlib import Path

import pytest

from nearlight.store import Store, StoreLocked

HOLD = "import sys; from pathlib import Path; from nearlight.store import Store; s = Store.open(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"  # noqa: E501


def test_a_second_process_is_refused_by_pid_until_the_first_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=f"is open in process {holder.pid}") as caught:
            Store.open(tmp_path)
        assert caught.value.pid == holder.pid
        holder.kill()
    Store.open(tmp_path).close()


def test_a_second_store_of_one_process_is_refused(tmp_path: Path) -> None:
    mine = rf"is open in this process \({os.getpid()}\)"
    with Store.open(tmp_path), pytest.raises(StoreLocked, match=mine):
        Store.open(tmp_path)
    Store.open(tmp_path).close()
