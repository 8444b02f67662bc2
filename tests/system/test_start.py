# SPDX-License-Identifier: Apache-2.0
"""A server that cannot start says why and what to do; 1: at run time, 2: wrong use."""
import os
import signal
import socket
import subprocess
import time

import pytest

from cluster import SENNIT, free_port, run, wait_until


def refuses(code, words, *args):
    done = run("server", *args)
    assert done.returncode == code, (done.returncode, done.stderr)
    for word in words:
        assert word in done.stderr, done.stderr
    return done.stderr


def places(tmp_path):
    return ["--data", tmp_path / "data", "--client", f"127.0.0.1:{free_port()}",
            "--peer", f"127.0.0.1:{free_port()}"]


@pytest.mark.parametrize("args,words", [
    (["--nosuch", "1"], ["--nosuch", "--help"]),
    (["--dta", "x"], ["--dta", "did you mean data?"]),
    (["data"], ["'data'"]),
    (["--client"], ["--client needs a value"]),
    (["--client", "nowhere"], ["--client: client must be HOST:PORT"]),
    (["--client", "127.0.0.1:0"], ["--client: client must be HOST:PORT"]),
    (["--client", "127.0.0.1:65536"], ["--client: client must be HOST:PORT"]),
    (["--client", "127.0.0.1:60000"], ["--peer"]),
    (["--name", "a b"], ["--name: name must be"]),
    (["--memory", "lots"], ["--memory: memory must be a size"]),
    (["--memory", "1kb"], ["64mb"]),
    (["--maxclients", "0"], ["--maxclients: maxclients must be"]),
    (["--request-timeout", "soon"], ["--request-timeout: request-timeout must be a time"]),
    (["--log-level", "loud"], ["log-level must be"]),
    (["--config", "/nonexistent"], ["/nonexistent"]),
    (["--password-file", "/nonexistent"], ["/nonexistent"]),
    (["--join", "127.0.0.1:16399", "--peer", "127.0.0.1:16399"], ["--join names this server"]),
])
def test_wrong_flags_are_named(tmp_path, args, words):
    refuses(2, words, *([] if "--config" in args else ["--data", tmp_path / "d"]), *args)
    assert not (tmp_path / "d").exists() or not os.listdir(tmp_path / "d")


def test_listening_beyond_loopback_needs_a_password_or_insecure(tmp_path):
    port = free_port()
    refuses(2, ["--password-file", "--insecure"], "--client", f"0.0.0.0:{port}",
            "--advertise-client", f"127.0.0.1:{port}", "--data", tmp_path / "d")
    refuses(2, ["--cluster-secret-file", "--insecure"], "--peer", f"0.0.0.0:{port}",
            "--advertise-peer", f"127.0.0.1:{port}", "--data", tmp_path / "d")


def test_who_listens_everywhere_is_told_of_by_the_name_of_the_machine(make_cluster):
    cluster = make_cluster(0)
    s = cluster.new_server(args=["--insecure"])
    s.command = lambda join=None, command=s.command(): [
        w.replace("127.0.0.1:", "0.0.0.0:") for w in command]
    s.start()
    wait_until(lambda: s.ask("PING") == "PONG", 20)
    node, = cluster.nodes(s)
    assert node["address"] == f"{socket.gethostname()}:{s.port}@{s.peer_port},{s.name}"


@pytest.mark.parametrize("line,words", [
    ("nosuch = 1", [":2: unknown name 'nosuch'"]),
    ("memry = 1gb", [":2: unknown name 'memry' (did you mean memory?)"]),
    ("memory", [":2: a line must be `name = value`"]),
    ("memory = lots", [":2: memory must be a size"]),
    ("config = other", [":2: a config file cannot name another one"]),
])
def test_wrong_lines_of_a_config_file_are_named(tmp_path, line, words):
    path = tmp_path / "sennit.conf"
    path.write_text(f"# a comment\n{line}\n")
    refuses(2, words, "--config", path, "--data", tmp_path / "d")


def test_a_config_file_is_used_and_a_flag_beats_it(make_cluster, tmp_path):
    path = tmp_path / "sennit.conf"
    path.write_text("maxclients = 77\n\n# more\nrequest-timeout = 3s\n  log-level=debug  \n")
    s = make_cluster(1, args=["--config", path, "--maxclients", "88"])[0]
    assert s.ask("CONFIG", "GET", "maxclients") == [b"maxclients", b"88"]
    assert s.ask("CONFIG", "GET", "log-level") == [b"log-level", b"debug"]


def test_a_data_directory_that_cannot_be(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    refuses(2, [str(file), "is not a directory"], "--data", file, *places(tmp_path)[2:])
    refuses(1, [str(file)], "--data", file / "below", *places(tmp_path)[2:])
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "holiday.jpg").write_text("x")
    refuses(2, ["no FORMAT"], "--data", strange, *places(tmp_path)[2:])
    assert os.listdir(strange) in (["holiday.jpg"], ["LOCK", "holiday.jpg"],
                                   ["holiday.jpg", "LOCK"])


def test_a_read_only_data_directory(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    path = tmp_path / "ro"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", path], check=True)
    try:
        refuses(1, [str(path), "Read-only file system"], "--data", path, *places(tmp_path)[2:])
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_second_process_on_the_same_data(make_cluster, tmp_path):
    s = make_cluster(1)[0]
    refuses(1, [s.data], "--data", s.data, *places(tmp_path)[2:])
    assert s.ask("PING") == "PONG"
    assert str(s.pid) in refuses(1, [], "--data", s.data, *places(tmp_path)[2:])


def test_another_servers_data(make_cluster, tmp_path):
    s = make_cluster(1)[0]
    assert s.terminate() == 0
    refuses(2, ["belongs to server 's1'", "'s9'"], "--data", s.data, "--name", "s9",
            *places(tmp_path)[2:])


def test_data_of_a_newer_version(make_cluster, tmp_path):
    s = make_cluster(1)[0]
    assert s.terminate() == 0
    path = os.path.join(s.data, "FORMAT")
    with open(path, encoding="ascii") as f:
        kept = f.read()
    with open(path, "w", encoding="ascii") as f:
        f.write("sennit 999\n")
    refuses(2, ["999", "newer"], "--data", s.data, *places(tmp_path)[2:])
    with open(path, "w", encoding="ascii") as f:
        f.write("rubbish")
    refuses(2, ["FORMAT"], "--data", s.data, *places(tmp_path)[2:])
    with open(path, "w", encoding="ascii") as f:
        f.write(kept)
    s.start()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert s.ask("PING") == "PONG"
            break
        except OSError:
            time.sleep(0.05)


def test_a_log_without_an_identity(make_cluster, tmp_path):
    s = make_cluster(1)[0]
    assert s.terminate() == 0
    for name in os.listdir(os.path.join(s.data, "store")):
        os.remove(os.path.join(s.data, "store", name))
    refuses(1, ["a log but no identity"], "--data", s.data, *places(tmp_path)[2:])


@pytest.mark.parametrize("which", ["--client", "--peer"])
def test_a_port_in_use(tmp_path, which):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        args = places(tmp_path)
        args[args.index(which) + 1] = f"127.0.0.1:{port}"
        refuses(1, [f"127.0.0.1:{port}", "in use"], *args)


def test_few_file_descriptors_make_fewer_clients_and_are_told(tmp_path):
    log = tmp_path / "log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", 'ulimit -n 800; exec "$@"', "-", SENNIT, "server",
             *map(str, places(tmp_path))], stderr=out)
    try:
        deadline = time.monotonic() + 10
        while "at most 288 clients instead of 10000" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_cannot_join_yet_ends_it(tmp_path, number):
    args = [*places(tmp_path), "--join", f"127.0.0.1:{free_port()}"]
    with subprocess.Popen([SENNIT, "server", *map(str, args)],
                          stderr=subprocess.DEVNULL) as process:
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(10) == 0


def test_two_starts_at_once_on_a_new_directory(tmp_path):
    """One of them has it; the other says so."""
    def args():
        return [SENNIT, "server", "--data", str(tmp_path / "data"),
                "--client", f"127.0.0.1:{free_port()}", "--peer", f"127.0.0.1:{free_port()}"]
    both = [subprocess.Popen(args(), stderr=subprocess.PIPE) for _ in range(2)]
    try:
        time.sleep(1.5)
        assert sorted((p.poll() for p in both), key=str) == [1, None]
    finally:
        for p in both:
            p.kill()
            p.communicate(timeout=10)
