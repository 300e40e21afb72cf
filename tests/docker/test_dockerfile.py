"""The images, checked without an engine: what the files say, and what their commands do."""

import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
HAPROXY = (ROOT / "docker" / "haproxy.cfg").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of each logical line."""
    joined = DOCKERFILE.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1].strip()) for line in lines]


def test_both_targets_come_from_the_runtime_stage() -> None:
    targets = {name: source for source, name in re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)}

    assert (targets["cpu"], targets["gpu"]) == ("runtime", "runtime")


def test_what_is_copied_exists_and_is_the_serving_half() -> None:
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]

    assert {"pkdot.py", "models", "service", "docker/serve.lock"} <= set(copied)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert "training" not in copied
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == allowed


def test_all_that_comes_from_outside_is_known_by_its_hash() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?(?:install|wheel) [^&\n]*", DOCKERFILE)

    assert len(installs) == 6
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)
    assert all("--no-deps" in install for install in installs)


def test_the_base_image_can_be_named_by_its_digest() -> None:
    stages = re.findall(r"^FROM (\S+) AS", DOCKERFILE, re.MULTILINE)
    outside = {stage for stage in stages if stage not in re.findall(r"AS (\S+)$", DOCKERFILE, re.MULTILINE)}

    assert outside == {"${PYTHON_IMAGE}"}
    assert re.search(r"^ARG PYTHON_IMAGE=python:[0-9.]+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert COMPOSE["services"]["balancer"]["image"].startswith("${PKDOT_HAPROXY_IMAGE:-")
    assert "${PKDOT_PYTHON_IMAGE:-" in COMPOSE["services"]["replica"]["build"]["args"]["PYTHON_IMAGE"]


def test_an_image_decodes_in_a_sandbox_or_not_at_all() -> None:
    assert "PKDOT_SANDBOX=require" in next(rest for name, rest in instructions() if "PKDOT_SANDBOX" in rest)


@pytest.mark.parametrize("service", COMPOSE["services"])
def test_every_container_has_a_fixed_file_system_and_no_rights(service: str) -> None:
    said = COMPOSE["services"][service]

    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"}.isdisjoint(said)


def test_the_replicas_believe_the_balancer_and_it_alone_reaches_them() -> None:
    replica, balancer = COMPOSE["services"]["replica"], COMPOSE["services"]["balancer"]

    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert (replica["networks"], "ports" in replica) == (["inside"], False)
    assert "inside" in balancer["networks"]
    networks = [ip_network(text) for text in replica["environment"]["PKDOT_TRUSTED_PROXIES"].split(",")]
    assert all(network.is_private for network in networks)


def test_the_process_is_nobody_in_particular_and_stops_by_sigterm() -> None:
    said = dict(instructions())

    assert said["USER"] == "10001"
    assert said["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(said["ENTRYPOINT"]) == ["pkdot"]
    assert json.loads(said["CMD"])[0] == "serve"


@contextmanager
def answering(status: int, address: str = "127.0.0.1") -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/health/live"
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer((address, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def health_check(port: int, host: str = "") -> int:
    rest = next(rest for name, rest in instructions() if name == "HEALTHCHECK")
    command = json.loads(rest[rest.index("CMD") + 3 :])
    environment = {**os.environ, "PKDOT_PORT": str(port), "PKDOT_HOST": host}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=30).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_a_live_service_from_a_dead_one(status: int, healthy: bool) -> None:
    with answering(status) as port:
        assert (health_check(port) == 0) is healthy


@pytest.mark.parametrize(("listens", "host"), [("127.0.0.2", "127.0.0.2"), ("127.0.0.1", "0.0.0.0")])
def test_the_health_check_asks_where_the_service_listens(listens: str, host: str) -> None:
    with answering(200, listens) as port:
        assert health_check(port, host) == 0


def test_the_health_check_fails_where_nothing_listens() -> None:
    with answering(200) as port:
        pass

    assert health_check(port) != 0


def test_replicas_can_write_only_where_they_must() -> None:
    replica = COMPOSE["services"]["replica"]
    places = {mount.split(":")[0] for mount in replica["tmpfs"]}
    settings = dict(re.findall(r"(PKDOT_\w+)=(\S+)", DOCKERFILE))

    assert replica["read_only"] is True
    assert replica["cap_drop"] == ["ALL"]
    assert replica["deploy"]["replicas"] >= 2
    assert all(volume.endswith(":ro") for volume in replica["volumes"])
    assert {settings["PKDOT_SPOOL_DIR"], settings["PKDOT_CACHE_DIR"]} <= places


def test_neither_logs_nor_orphans_gather_for_ever() -> None:
    services = COMPOSE["services"]

    assert {service["logging"]["driver"] for service in services.values()} == {"local"}
    assert services["replica"]["init"] is True


def test_a_replica_has_time_to_drain_and_to_finish_its_longest_request() -> None:
    replica = COMPOSE["services"]["replica"]

    grace_s = int(replica["stop_grace_period"].removesuffix("s"))

    assert grace_s >= 5 + int(replica["environment"]["PKDOT_MAX_REQUEST_TIMEOUT_S"])


def test_a_balancer_has_time_to_end_by_itself() -> None:
    (hard_stop_min,) = re.findall(r"hard-stop-after (\d+)m$", HAPROXY, re.MULTILINE)

    grace_s = int(COMPOSE["services"]["balancer"]["stop_grace_period"].removesuffix("s"))

    assert grace_s > 60 * int(hard_stop_min)


def test_the_balancer_gets_the_tested_file_and_only_variables_that_it_knows() -> None:
    balancer = COMPOSE["services"]["balancer"]
    known = set(re.findall(r"\$\{(BALANCER_\w+)", HAPROXY))

    assert "./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro" in balancer["volumes"]
    assert set(balancer["environment"]) <= known
    for file in re.findall(r"lf-file (\S+)", HAPROXY):
        assert json.loads((ROOT / "docker" / file).read_text())["code"].startswith("gateway_")
