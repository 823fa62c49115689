# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples for Prometheus and Grafana, with their own programs where these are there (tools/setup monitoring)."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.kubepin.tuning.plugins.module_utils.control.check.metrics import metric_files
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from grafana_foundation_sdk.models.prometheus import Dataquery
from prometheus_client.parser import text_string_to_metric_families as parsed

PROJECT = Path(__file__).parents[2]
RULES = PROJECT / "examples/monitoring/kubepin-rules.yml"
DASHBOARD = PROJECT / "examples/monitoring/kubepin-dashboard.json"
PROGRAMS = Path(os.environ.get("KUBEPIN_CACHE", Path.home() / ".cache/kubepin")) / "monitoring/usr/bin"
OF_KUBELETS = {
    "kubelet_cpu_manager_pinning_errors_total",  # 1.26
    "kubelet_topology_manager_admission_errors_total",  # 1.27
    "kubelet_cpu_manager_exclusive_cpu_allocation_count",  # 1.32
    "kubelet_cpu_manager_shared_pool_size_millicores",
}
"""Kubernetes, pkg/kubelet/metrics/metrics.go, in the first release that has the name."""
CHECKS: tuple[dict[str, Any], ...] = (
    {
        "node": "gpu-01",
        "outcome": "drifted",
        "problems": [{"code": "exclusive_cpus_lost"}],
        "unchecked": [],
        "pinned": 3,
        "gpu_containers": [{"pinned": True}],
    },
    {"node": "gpu-02", "outcome": "not_checked", "problems": [], "unchecked": [{"code": "node_unread"}]},
)


def program(name: str) -> str:
    """The path of a program of Prometheus."""
    found = shutil.which(name) or shutil.which(name, path=str(PROGRAMS))
    if found is None:
        pytest.skip(f"needs {name}: tools/setup monitoring")
    return found


def queries() -> dict[str, list[str]]:
    """Title of a panel -> its expressions."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels}


def alerts() -> list[dict[str, Any]]:
    """All alerts."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_rules_and_dashboard_use_metrics_that_there_are() -> None:
    written = {family.name for text in metric_files(CHECKS, 0).values() for family in parsed(text)}
    expressions = [rule["expr"] for rule in alerts()] + [expr for panel in queries().values() for expr in panel]
    used = {
        name for expr in expressions for name in re.findall(r"\b(?:kubepin|kubelet)_\w+", re.sub('".*?"', "", expr))
    }
    assert used - written == OF_KUBELETS


def test_alerts_lead_to_sections_that_there_are() -> None:
    for rule in alerts():
        page, _, section = rule["annotations"]["runbook_url"].partition("/blob/main/")[2].partition("#")
        titles = re.findall(r"^#+ (.+)$", (PROJECT / page).read_text(), re.MULTILINE)
        assert section in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


def test_the_dashboard_is_one_that_grafana_s_types_hold_without_a_loss() -> None:
    """A field that the types of Grafana do not know would be lost on the way."""
    register_default_plugins()
    text = json.loads(DASHBOARD.read_text())
    dashboard = Dashboard.from_json(text)
    assert json.loads(JSONEncoder().encode(dashboard)) == text
    targets = [target for panel in dashboard.panels or [] for target in getattr(panel, "targets", None) or []]
    assert len(targets) == 12
    assert all(isinstance(target, Dataquery) for target in targets)


def test_no_panel_covers_another() -> None:
    taken = [
        (x, y)
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23


@pytest.mark.component
def test_prometheus_takes_the_rules_and_each_alert_fires_when_it_should(tmp_path: Path) -> None:
    text = (Path(__file__).parent / "alerts.yml").read_text()
    (tmp_path / "alerts.yml").write_text(text.replace("RULES", str(RULES)))
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(tmp_path / "alerts.yml")]):
        done = subprocess.run([program("promtool"), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    tested = {each["alertname"] for test in yaml.safe_load(text)["tests"] for each in test["alert_rule_test"]}
    assert tested == {rule["alert"] for rule in alerts()}


@pytest.mark.component
def test_prometheus_takes_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [expr for panel in queries().values() for expr in panel]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = [program("promtool"), "check", "rules", str(tmp_path / "rules.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def answer(url: str, process: subprocess.Popen[bytes]) -> str:
    """The answer of a server that starts, within 30 s."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                text: str = response.read().decode()
                return text
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.component
def test_node_exporter_reads_the_files(tmp_path: Path) -> None:
    for name, text in metric_files(CHECKS, 1764000000).items():
        (tmp_path / name).write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    command = [program("prometheus-node-exporter"), f"--web.listen-address={address}", "--collector.disable-defaults"]
    command += ["--collector.textfile", f"--collector.textfile.directory={tmp_path}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            text = answer(f"http://{address}/metrics", process)
        finally:
            process.terminate()
    lines = text.splitlines()
    assert "node_textfile_scrape_error 0" in lines
    assert 'kubepin_node_problems{code="exclusive_cpus_lost",node="gpu-01"} 1' in lines
    assert 'kubepin_node_checked{node="gpu-02"} 0' in lines


KUBELET = """\
kubelet_cpu_manager_exclusive_cpu_allocation_count{node="gpu-01"} 3
kubelet_cpu_manager_shared_pool_size_millicores{node="gpu-01"} 13000
kubelet_cpu_manager_pinning_errors_total{node="gpu-01"} 0
kubelet_topology_manager_admission_errors_total{node="gpu-01"} 0
"""
"""A stand-in for what a kubelet serves, with names and types of Kubernetes' pkg/kubelet/metrics/metrics.go."""


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes the files of a check, and the stand-in, every 100 ms."""
    written = "".join(metric_files(CHECKS, int(time.time()) - 60).values()) + KUBELET

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(written.encode())

        def log_message(self, *_arguments: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as target:
        threading.Thread(target=target.serve_forever, daemon=True).start()
        jobs = [{"job_name": "kubepin", "static_configs": [{"targets": [f"127.0.0.1:{target.server_port}"]}]}]
        config = {"global": {"scrape_interval": "100ms", "scrape_timeout": "100ms"}, "scrape_configs": jobs}
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
        files = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        command = [program("prometheus"), *files, f"--web.listen-address={address}"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                answer(f"http://{address}/-/ready", process)
                yield f"http://{address}"
            finally:
                process.terminate()
                target.shutdown()


def value(server: str, expression: str) -> list[dict[str, Any]]:
    """What Prometheus answers to an expression now."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{server}/api/v1/query?{query}", timeout=10) as response:
        result: list[dict[str, Any]] = json.loads(response.read())["data"]["result"]
        return result


@pytest.mark.component
def test_every_panel_shows_data_of_a_prometheus_that_scrapes_a_check(prometheus: str) -> None:
    deadline = time.monotonic() + 30
    while len(value(prometheus, "count_over_time(kubepin_node_as_planned[1m]) > 1")) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    shown = {
        title: [value(prometheus, expression.replace("$node", ".*")) for expression in expressions]
        for title, expressions in queries().items()
    }
    assert [title for title, results in shown.items() if not all(results)] == []
    (differ,) = shown["Nodes that differ"]
    assert differ[0]["value"][1] == "1"
    (now,) = shown["Problems now"]
    assert sorted((each["metric"]["node"], each["metric"]["code"]) for each in now) == [
        ("gpu-01", "exclusive_cpus_lost"),
        ("gpu-02", "node_unread"),
    ]
