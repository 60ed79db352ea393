"""The tools that tests of faults use do what they say."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import faults
import namespaces
import pytest
import servers
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError
from faults import Proxy, Reset, Short, Slow, Status

BODY = bytes(range(256)) * 40
PATH = f"/{servers.BUCKET}/a%20b/%C3%A9.bin"


@pytest.fixture(scope="module", params=servers.SERVERS)
def behind(request, tmp_path_factory):
    """A server with one object."""
    with servers.SERVERS[request.param](tmp_path_factory.mktemp("server")) as endpoint:
        servers.client(endpoint).put_object(Bucket=servers.BUCKET, Key="a b/é.bin", Body=BODY)
        yield endpoint


only_rclone = pytest.mark.parametrize("behind", ["rclone"], indirect=True)


@pytest.fixture
def proxy(behind):
    with Proxy(behind) as found:
        yield found


def get(client, **more):
    return client.get_object(Bucket=servers.BUCKET, Key="a b/é.bin", **more)["Body"].read()


def test_without_a_rule_everything_is_forwarded(proxy):
    client = servers.client(proxy.endpoint)
    at = {"Bucket": servers.BUCKET, "Key": "c+d"}
    assert get(client) == BODY
    assert get(client, Range="bytes=10-19") == BODY[10:20]
    client.put_object(**at, Body=BODY * 2)
    assert client.head_object(**at)["ContentLength"] == 2 * len(BODY)
    listed = client.list_objects_v2(Bucket=servers.BUCKET)["Contents"]
    assert [item["Key"] for item in listed] == ["a b/é.bin", "c+d"]
    client.delete_object(**at)
    with pytest.raises(ClientError, match="404"):
        client.head_object(**at)
    assert proxy.requests[0] == ("GET", PATH)
    assert [method for method, _ in proxy.requests] == [
        *("GET", "GET", "PUT", "HEAD", "GET", "DELETE", "HEAD")
    ]


@only_rclone
def test_a_connection_is_kept_from_one_request_to_the_next(proxy):
    connection = HTTPConnection(proxy.endpoint.removeprefix("http://"))
    proxy.rule = lambda method, path, number: Status(503, "SlowDown") if number == 1 else None
    ports = set()
    for method in ("PUT", "HEAD", "GET", "DELETE"):
        connection.request(method, PATH, body=b"x" if method == "PUT" else None)
        connection.getresponse().read()
        ports.add(connection.sock.getsockname())
    connection.close()
    assert len(ports) == 1


@only_rclone
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_reset_is_a_reset_for_boto3(proxy, monkeypatch, size):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.rule = lambda method, path, number: Reset()
    client = servers.client(proxy.endpoint)
    with pytest.raises(ConnectionClosedError) as caught:
        get(client)
    assert "ConnectionResetError(104" in repr(caught.value.kwargs["error"])
    with pytest.raises((ConnectionClosedError, HTTPClientError), match="closed|reset|pipe"):
        client.put_object(Bucket=servers.BUCKET, Key="d", Body=bytes(size))
    assert [method for method, _ in proxy.requests] == ["GET", "PUT"]


@only_rclone
def test_a_rule_that_is_replaced_holds_for_the_next_request(proxy):
    client = servers.client(proxy.endpoint)
    proxy.rule = lambda method, path, number: Status(404, "NoSuchKey")
    with pytest.raises(ClientError, match="NoSuchKey"):
        get(client)
    proxy.rule = lambda method, path, number: None
    assert get(client) == BODY


@only_rclone
def test_a_short_body_is_noticed_by_its_reader(proxy):
    proxy.rule = lambda method, path, number: Short(1000)
    with pytest.raises(HTTPClientError, match="1000 bytes read, 9240 more expected"):
        get(servers.client(proxy.endpoint))


@only_rclone
def test_busy_once_then_the_object(proxy):
    proxy.rule = lambda method, path, number: Status(503, "SlowDown") if number == 1 else None
    assert get(servers.client(proxy.endpoint)) == BODY
    assert proxy.requests == [("GET", PATH)] * 2


@only_rclone
def test_an_error_is_s3s_own_with_its_code_and_when_to_come_again(proxy):
    proxy.rule = lambda method, path, number: Status(403, "AccessDenied", retry_after=7)
    with pytest.raises(ClientError, match=r"AccessDenied.*: AccessDenied, as ordered\.") as caught:
        get(servers.client(proxy.endpoint))
    answer = caught.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert answer["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "7"
    assert answer["Error"]["Resource"] == PATH


@only_rclone
def test_a_slow_answer_comes_late_and_keeps_nobody_from_ending(behind):
    with Proxy(behind, lambda method, path, number: Slow(0.3 if number == 1 else 60)) as proxy:
        begun = time.monotonic()
        assert get(servers.client(proxy.endpoint)) == BODY
        assert time.monotonic() - begun > 0.3
        connection = socket.create_connection(proxy.endpoint.removeprefix("http://").split(":"))
        connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        faults.wait_until(lambda: len(proxy.requests) == 2, 5)
    assert time.monotonic() - begun < 10
    connection.close()


FILL = "import sys; open(sys.argv[1], 'wb').write(bytes(100_000))"


@pytest.mark.skipif(not faults.can_unshare(), reason="this machine lets nobody mount a small disk")
def test_a_full_disk_has_no_space_left(tmp_path):
    fill = [sys.executable, "-c", FILL, str(tmp_path / "file")]
    done = subprocess.run([*faults.full_disk("64k", tmp_path), *fill], capture_output=True)
    assert b"OSError: [Errno 28] No space left on device" in done.stderr
    done = subprocess.run([*faults.full_disk("200k", tmp_path), *fill], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leader_ends_first", [False, True])
def test_a_group_is_killed_with_its_children_even_after_its_leader(leader_ends_first):
    family = ["sh", "-c", "sleep 60 & sh -c 'sleep 60; true' & read until_told"]
    with subprocess.Popen(family, stdin=subprocess.PIPE, start_new_session=True) as process:
        found = faults.wait_until(lambda: faults.children(process.pid)[2:], 5)
        found += faults.children(process.pid)
        if leader_ends_first:
            process.communicate(b"now\n")
        faults.kill_group(process)
        faults.wait_until(lambda: not any(map(faults.lives, found)), 5)
        assert faults.children(process.pid) == []
        assert process.returncode == (0 if leader_ends_first else -signal.SIGKILL)


def test_a_process_of_our_own_group_is_not_taken_for_a_group():
    process = subprocess.Popen(["sleep", "60"])
    with pytest.raises(ValueError, match="has no group of its own; use start_new_session=True"):
        faults.kill_group(process)
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_waiting_in_vain_is_said():
    with pytest.raises(AssertionError, match=r"waited 0\.05 s in vain"):
        faults.wait_until(list, 0.05)


@pytest.fixture
def permitted():
    if why := namespaces.why_not():
        pytest.skip(why)


SERVE = [sys.executable, "-m", "http.server", "8000", "--bind"]
ASK = """
import http.client, sys, time
for _ in range(100):
    try:
        connection = http.client.HTTPConnection(sys.argv[1], timeout=5)
        connection.request("GET", sys.argv[2])
        print(connection.getresponse().status)
        break
    except ConnectionRefusedError:
        time.sleep(0.02)
"""


def asked(host, address, path="/"):
    """The status that a server at *address* gives to a client on *host*."""
    command = host.command([sys.executable, "-c", ASK, address, path])
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.usefixtures("permitted")
def test_two_hosts_reach_each_others_server_at_their_addresses(tmp_path):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    with ExitStack() as stack:
        one, two = stack.enter_context(namespaces.hosts(2))
        for host in (one, two):
            (tmp_path / host.address).touch()
            command = host.command([*SERVE, host.address])
            process = stack.enter_context(subprocess.Popen(command, **quiet))
            stack.callback(process.kill)
        assert asked(one, f"{two.address}:8000", f"/{two.address}") == "200"
        assert asked(two, f"{one.address}:8000", f"/{one.address}") == "200"


@pytest.mark.usefixtures("permitted")
def test_hosts_reach_what_listens_on_the_machine_and_nothing_else():
    refuse = lambda method, path, number: Status(403, "AccessDenied")
    with namespaces.hosts(1) as (host,):
        with Proxy("http://127.0.0.1:1", refuse, address=host.machine) as proxy:
            assert asked(host, proxy.endpoint.removeprefix("http://"), "/x") == "403"
            assert proxy.requests == [("GET", "/x")]
        routes = subprocess.run(host.command(["ip", "route"]), capture_output=True, text=True)
        (route,) = routes.stdout.splitlines()
        assert route.split()[0] == f"{host.machine.removesuffix('.254')}.0/24"


@pytest.mark.usefixtures("permitted")
def test_hosts_are_gone_with_their_processes_even_after_an_error(monkeypatch):
    own = 128 + os.getpid() % 128  # another test run may take over the first names at once
    monkeypatch.setattr(namespaces, "NETWORKS", [own])
    with suppress(ZeroDivisionError), namespaces.hosts(2) as (one, two):
        process = subprocess.Popen(two.command(["sleep", "60"]))
        raise ZeroDivisionError
    assert process.wait(5) == -signal.SIGKILL
    for command in (["ip", "netns"], ["ip", "-brief", "link"]):
        left = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert not {one.name, two.name} & set(left.replace("@", " ").split())


@pytest.mark.usefixtures("permitted")
def test_hosts_of_two_runs_at_once_have_networks_of_their_own():
    with namespaces.hosts(1) as (one,), namespaces.hosts(1) as (other,):
        assert one.address != other.address
        assert one.name != other.name


def test_a_machine_without_hosts_says_why(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda name: f"/sbin/{name}")
    assert namespaces.why_not.__wrapped__() == "only root can make network namespaces"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert namespaces.why_not.__wrapped__() == "there is no `ip` here; install iproute2"


@pytest.mark.usefixtures("permitted")
def test_a_machine_that_refuses_namespaces_says_what_it_said(monkeypatch):
    monkeypatch.setattr(namespaces, "_bridge", lambda undo: (0, "no-such-bridge"))
    assert namespaces.why_not.__wrapped__() == (
        "this machine permits no network namespaces: ip address add 10.77.0.254/24 dev "
        'no-such-bridge: Cannot find device "no-such-bridge"'
    )
