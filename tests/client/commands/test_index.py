"""`nearlight index`: everything once, bad files named, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from nearlight.v1.input_pb2 import BatchError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(70):
        path = tmp_path / "photos" / f"{i % 3}" / f"{i:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"jpeg" + bytes([i]))
    return tmp_path / "photos"


def test_a_folder_and_then_only_what_changed(nearlight: Any, fake: Any, folder: Path) -> None:
    first = nearlight("index", folder, "-c", "photos", "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert (report["found"], report["indexed"], report["skipped"], report["failed"]) == (70, 70, 0, [])
    assert sorted(fake.script.points)[0] == "0/00.jpg"
    payload = json.loads(fake.script.points["0/00.jpg"].payload_json)
    assert payload.keys() == {"path", "size", "sha256", "mtime", "mtime_ns"}

    (folder / "0" / "00.jpg").write_bytes(b"another picture")
    (folder / "new.png").write_bytes(b"new")
    os.utime(folder / "0" / "03.jpg", ns=(1, 1))  # touched, same picture
    (folder / "1" / "01.jpg").unlink()  # gone from the folder, not from the collection
    second = json.loads(nearlight("index", folder, "-c", "photos", "--json").stdout)
    assert (second["indexed"], second["skipped"]) == (2, 68)
    assert fake.script.points["0/00.jpg"].image == b"another picture"
    assert "1/01.jpg" in fake.script.points


def test_bad_files_are_named_and_the_exit_code_says_so(nearlight: Any, fake: Any, folder: Path) -> None:
    (folder / "text.jpg").write_bytes(b"bad")
    (folder / ("x" * 250 + ".jpg")).mkdir()
    deep = folder / ("d" * 200) / ("e" * 200) / ("f" * 200 + ".jpg")
    deep.parent.mkdir(parents=True)
    deep.write_bytes(b"an id of more than 512 bytes")
    (folder / "link.jpg").symlink_to(folder / "nowhere")
    result = nearlight("index", folder, "-c", "photos", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["indexed"] == 70
    reasons = {one["id"]: one["reason"] for one in report["failed"]}
    assert reasons["text.jpg"] == "is bad"
    assert reasons["link.jpg"] == "No such file or directory"
    assert "512" in reasons[deep.relative_to(folder).as_posix()]
    assert "failed: text.jpg: is bad" in result.stderr
    assert "70 indexed, 0 unchanged, 3 failed" in result.stderr


def test_names_that_are_no_utf8_are_named_too(nearlight: Any, folder: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jpg")).write_bytes(b"i")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    result = nearlight("index", folder, "-c", "photos", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["failed"][0]["id"] == "\udcff.jpg"


def test_a_restart_of_the_server_is_survived(nearlight: Any, fake: Any, folder: Path) -> None:
    fake.script.break_stream_after += [1, 0, 1]
    report = json.loads(nearlight("index", folder, "-c", "photos", "--batch-size", "8", "--json").stdout)
    assert report["indexed"] == 70
    assert len(fake.script.points) == 70


def test_a_batch_the_server_fails_at_is_reported_and_the_rest_goes_on(
    nearlight: Any, fake: Any, folder: Path
) -> None:
    fake.script.batch_errors.append(BatchError(code=13, message="internal error"))
    result = nearlight("index", folder, "-c", "photos", "--batch-size", "8", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["indexed"], len(report["failed"])) == (1, 62, 8)


def test_failure_of_the_whole_is_one_line(nearlight: Any, fake: Any, folder: Path) -> None:
    fake.script.fail("CreateCollection", grpc.StatusCode.NOT_FOUND, "no model 'x' is loaded")
    result = nearlight("index", folder, "-c", "photos", "--model", "x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.strip() == "error: no model 'x' is loaded"


def test_no_such_source(nearlight: Any) -> None:
    result = nearlight("index", "/nowhere", "-c", "photos")
    assert result.exit_code == 2
    assert "no folder or file" in result.stderr


def test_ctrl_c_keeps_what_was_acknowledged(fake: Any, folder: Path) -> None:
    fake.script.stall.set()
    command = [sys.executable, "-m", "nearlight.client.cli", "index", str(folder), "-c", "photos", "--json"]
    process = subprocess.Popen(
        [*command, "--batch-size", "8", "--server", fake.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a script, Ctrl-C is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not any(request is not None for request in fake.script.requests("UpsertStream")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, stderr
    report = json.loads(stdout)
    assert report["interrupted"]
    assert report["indexed"] == len(fake.script.points)
    assert "run the same command again" in stderr


def test_a_named_pipe_is_named_and_not_waited_for(nearlight: Any, folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    result = nearlight("index", folder, "-c", "photos", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["indexed"], report["failed"]) == (70, [{"id": "pipe.jpg", "reason": "not a regular file"}])


def test_a_folder_without_images_says_so(nearlight: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    result = nearlight("index", tmp_path, "-c", "photos", "--json")
    assert (result.exit_code, json.loads(result.stdout)["found"]) == (0, 0)
    assert f"there are no images in {tmp_path}" in result.stderr


def test_a_server_that_goes_for_good_leaves_a_report(nearlight: Any, fake: Any, folder: Path) -> None:
    fake.script.fail("UpsertStream", grpc.StatusCode.PERMISSION_DENIED, "not with this token")
    result = nearlight("index", folder, "-c", "photos", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["found"], report["indexed"], report["interrupted"]) == (70, 0, True)
    assert result.stderr.strip().endswith("error: not with this token")
