"""An endpoint that does not answer: a warning within seconds, and an error that names it."""

import logging
import socket
import time

import pytest

from pipeline.core.errors import TransientError
from pipeline.storage import open_storage, s3_client


@pytest.fixture
def silent(monkeypatch):
    """An endpoint that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield address


def test_a_silent_endpoint_is_named_within_seconds_and_in_the_error(silent, monkeypatch, caplog):
    monkeypatch.setattr(s3_client, "SILENT_S", 0.2)
    monkeypatch.setattr(s3_client, "TIMEOUT_S", 1)
    monkeypatch.setattr(s3_client, "TRIES", 1)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING), pytest.raises(TransientError) as stop:
        list(open_storage("s3://reef/photos").list())
    assert time.monotonic() - started < 5
    (message,) = [record.getMessage() for record in caplog.records if "no answer" in record.msg]
    assert message == (
        f"s3://reef/photos: no answer yet from {silent}; still trying. The endpoint is set by "
        "QUADRAT_ENDPOINT, AWS_ENDPOINT_URL or endpoint in luigi.cfg"
    )
    assert silent in str(stop.value)
    assert "check the endpoint and the network (QUADRAT_ENDPOINT, AWS_ENDPOINT_URL or" in str(
        stop.value
    )


def test_the_usual_wait_for_a_warning_is_a_few_seconds():
    assert s3_client.SILENT_S <= 5
    assert s3_client.CONNECT_S * s3_client.TRIES <= 30
