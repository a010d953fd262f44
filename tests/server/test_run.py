import subprocess
import sys

CODE = """
import gc
from nearlight.server.run import YOUNG_OBJECTS, spare_collections

old = [[]]
old[0].append(old)
spare_collections()
assert gc.get_freeze_count() > 1000, gc.get_freeze_count()
assert gc.get_threshold()[0] == YOUNG_OBJECTS
assert len(gc.get_objects()) < 1000, len(gc.get_objects())
young = [[]]
young[0].append(young)
del old, young
assert gc.collect() == 2  # what came later is still found
"""


def test_collections_pass_over_what_was_made_before_the_first_call() -> None:
    subprocess.run([sys.executable, "-c", CODE], check=True, timeout=60)
