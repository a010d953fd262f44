"""`nearlight search`."""

import json
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from nearlight.client import Client, Point


@pytest.fixture(autouse=True)
def some_points(fake: Any) -> None:
    points = [
        Point(id=i, text="t", payload={"label_name": f"[bold]{i}[/]", "path": "p"}) for i in range(1, 6)
    ]
    with Client(fake.address) as client:
        client.upsert("photos", points)


def test_json_is_a_list_of_hits(nearlight: Any, fake: Any) -> None:
    result = nearlight("search", "a dog", "-c", "photos", "-n", "2", "--json")
    assert json.loads(result.stdout) == [
        {"id": i, "score": 0.5, "payload": {"label_name": f"[bold]{i}[/]", "path": "p"}} for i in (1, 2)
    ]
    assert fake.script.requests("Query")[0].query.text == "a dog"


def test_table_shows_payload_as_it_is(nearlight: Any) -> None:
    result = nearlight("search", "a dog", "-c", "photos")
    assert result.exit_code == 0
    assert "label_name=[bold]1[/]" in result.stdout


def test_by_image_and_by_id(nearlight: Any, fake: Any, tmp_path: Path) -> None:
    (tmp_path / "dog.jpg").write_bytes(b"jpeg")
    assert nearlight("search", "--image", tmp_path / "dog.jpg", "-c", "photos").exit_code == 0
    assert fake.script.requests("Query")[-1].query.image == b"jpeg"
    assert nearlight("search", "--id", "2024/dog.jpg", "-c", "photos").exit_code == 0
    assert fake.script.requests("Query")[-1].query.id.str == "2024/dog.jpg"


def test_digits_are_a_number_first_and_then_a_string(nearlight: Any, fake: Any) -> None:
    fake.script.fail("Query", grpc.StatusCode.NOT_FOUND)
    assert nearlight("search", "--id", "007", "-c", "photos").exit_code == 0
    first, second = fake.script.requests("Query")[:2]
    assert (first.query.id.num, second.query.id.str) == (7, "007")


def test_at_least_one_thing_to_look_for(nearlight: Any) -> None:
    result = nearlight("search", "-c", "photos")
    assert result.exit_code == 2
    assert "give at least one" in result.stderr


def test_several_things_are_a_mix(nearlight: Any, fake: Any) -> None:
    assert nearlight("search", "a dog", "--id", "x", "--without", "rain", "-c", "photos").exit_code == 0
    mix = fake.script.requests("Query")[-1].query.mix
    assert sorted(example.text or example.id.str for example in mix.positive) == ["a dog", "x"]
    assert [example.text for example in mix.negative] == ["rain"]


def test_nothing_listens(nearlight: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARLIGHT_SERVER", "127.0.0.1:9")
    result = nearlight("search", "a dog", "-c", "photos", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "Nothing listens at 127.0.0.1:9" in result.stderr
    assert "nearlight serve" in result.stderr


def test_a_server_that_hangs_up_on_plaintext_may_want_tls(nearlight: Any) -> None:
    def hang_up(listening: socket.socket) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                listening.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=hang_up, args=(listening,), daemon=True).start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        result = nearlight("search", "a dog", "-c", "photos", "--server", address)
    assert result.exit_code == 1
    assert f"{address} is there" in result.stderr
    assert "--tls-ca" in result.stderr


def test_a_filter_is_json(nearlight: Any, fake: Any) -> None:
    filter = '{"must": [{"field": {"key": "year", "range": {"gte": 2024}}}]}'
    assert nearlight("search", "a dog", "-c", "photos", "--filter", filter).exit_code == 0
    [condition] = fake.script.requests("Query")[0].filter.must
    assert (condition.field.key, condition.field.range.gte) == ("year", 2024.0)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [("{", 2, "not JSON"), ("[]", 2, "a JSON object"), ('{"musst": []}', 1, "musst")],
)
def test_a_filter_that_is_none_is_told(nearlight: Any, text: str, code: int, words: str) -> None:
    result = nearlight("search", "a dog", "-c", "photos", "--filter", text)
    assert result.exit_code == code
    assert words in result.stderr
