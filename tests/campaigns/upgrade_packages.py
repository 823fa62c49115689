# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade from 1.21.14 to 1.22.17 with packages of apt or dnf, on a cluster with one worker.

A version that the repository lacks is refused, a broken kubelet's package is undone, then the upgrade passes, and a further run has
nothing to do. Packages and repository are stand-ins made of the sandbox's programs. For dnf, the nodes are Debian with dnf and rpm, and
without apt-get. Some 10 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.host import install_packages, lacking_packages
from sandbox.nodes import BUILDS_MOUNT
from sandbox.settings import Paths
from sandbox.shell import Log, Shell
from tests.campaigns.base import JSON_LINES, ROOT, AnsibleRun, expect, find_problem, new_sandbox, playbook
from tests.campaigns.stand_in_repository import publish

NAME, BEFORE, AFTER = "packages", "1.21.14", "1.22.17"
CONTROL_PLANE, WORKER = NODES = (f"{NAME}-control-plane", f"{NAME}-worker-1")
FOLDER, PORT = "stand-in-packages", 8081
URL = f"http://{CONTROL_PLANE}:{PORT}"
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
COLUMNS = 900


@dataclass(frozen=True)
class Manager:
    """A package manager: what its packages are called, and scripts that install, show and check them on a node."""

    kind: str
    old: str
    new: str
    install: str
    show: str
    check: str
    """Prints `checked` if all three packages are held, whole and of `{version}`, and the manager finds no fault."""
    checked: str
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What this machine needs to make packages of this kind: package -> its commands."""


APT = Manager(
    kind="deb",
    old="1.21.14-00",
    new="1.22.17-1.1",
    install=f"""
mkdir -p /etc/apt/keyrings
cp {BUILDS_MOUNT}/{FOLDER}/key.gpg /etc/apt/keyrings/kubernetes-apt-keyring.gpg
key=signed-by=/etc/apt/keyrings/kubernetes-apt-keyring.gpg
echo "deb [$key] {URL}/v1.21/deb/ /" >/etc/apt/sources.list.d/kubernetes.list
apt-get -qq -o Dir::Etc::sourcelist=/dev/null update
apt-get -qq -y install kubeadm=1.21.14-00 kubelet=1.21.14-00 kubectl=1.21.14-00 >/dev/null
apt-mark hold kubeadm kubelet kubectl >/dev/null
""",
    show="""
dpkg -l cri-tools kubeadm kubectl kubelet | tail -4 | cut -c1-60
echo "held: $(apt-mark showhold | xargs)"
echo "audit: $(dpkg --audit | wc -l) lines"
cat /etc/apt/sources.list.d/kubernetes.list
cat /etc/default/kubelet 2>/dev/null || true
""",
    check="dpkg-query -Wf '${db:Status-Abbrev}${Version} ' kubeadm kubectl kubelet; dpkg --audit",
    checked="hi {version} hi {version} hi {version} ",
)
# Debian's rpm keeps its database in root's home by default; dnf's plugin `local` needs a repository of its own.
DNF = Manager(
    kind="rpm",
    old="1.21.14-0",
    new="1.22.17-150500.1.1",
    install=f"""
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends dnf rpm dnf-plugins-core >/dev/null 2>&1
mv /usr/bin/apt-get /usr/bin/apt-get.away
sed -i 's/^enabled = true/enabled = false/' /etc/dnf/plugins/local.conf
mkdir -p /etc/rpm /etc/yum.repos.d
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
repository={URL}/v1.21/rpm/
printf '%s\\n' '[kubernetes]' name=Kubernetes "baseurl=$repository" enabled=1 gpgcheck=1 \\
  "gpgkey=${{repository}}repodata/repomd.xml.key" >/etc/yum.repos.d/kubernetes.repo
dnf -q -y install red-hat-base kubeadm-1.21.14-0 kubelet-1.21.14-0 kubectl-1.21.14-0 >/dev/null
dnf -q versionlock add kubeadm kubelet kubectl >/dev/null
""",
    show="""
rpm -q cri-tools kubeadm kubectl kubelet
dnf -q versionlock list 2>/dev/null
rpm --verify kubeadm kubectl kubelet || true
cat /etc/yum.repos.d/kubernetes.repo
cat /etc/sysconfig/kubelet 2>/dev/null || true
""",
    check="""
dnf -q versionlock list 2>/dev/null | sort | tr '\\n' ' '
rpm --query kubeadm-{version} kubectl-{version} kubelet-{version} >/dev/null || echo missing
rpm --verify --noconfig kubeadm kubectl kubelet || true
""",
    checked="kubeadm-0:{version}.* kubectl-0:{version}.* kubelet-0:{version}.* ",
    packages={"rpm": ("rpmbuild", "rpmsign"), "createrepo-c": ("createrepo_c",)},
)
MANAGERS: Mapping[str, Manager] = {"apt": APT, "dnf": DNF}


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def output_of(*command: str) -> str:
    """What a command prints.

    Raises CheckFailed if it fails.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    expect(done.returncode == 0, f"`{' '.join(command)[:COLUMNS]}` failed: {done.stderr or done.stdout}")
    return done.stdout


def on_node(node: str, script: str) -> str:
    """What a script prints on a node."""
    return output_of("docker", "exec", node, "bash", "-euc", script)


def show_nodes(manager: Manager) -> None:
    """Print packages, service and version of each node."""
    service = "ActiveState,NRestarts,NeedDaemonReload,FragmentPath,DropInPaths"
    for node in NODES:
        print(f"-- {node}\n{on_node(node, manager.show)}", end="")
        print(on_node(node, f"systemctl show kubelet -p {service}; kubelet --version"), end="")
    print(on_node(CONTROL_PLANE, f"{KUBECTL} get nodes"), flush=True)


def check_nodes(manager: Manager, version: str) -> None:
    """Each node has the packages of that version as they should be."""
    wanted = manager.checked.replace("{version}", version)
    for node in NODES:
        found = on_node(node, manager.check.replace("{version}", version)).rstrip("\n")
        expect(found == wanted, f"{node}: {found}, expected {wanted}")


def upgrade(*arguments: str) -> AnsibleRun:
    """A run of the playbook."""
    variables = {"kubeadm_upgrade_source": "packages", "kubeadm_upgrade_repository": f"{URL}/v{{minor}}/{{format}}/"}
    command = ["ansible-playbook", "upgrade-cluster.yml", "-e", json.dumps(variables), *arguments]
    environment = {**os.environ, **JSON_LINES}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return AnsibleRun.ended(done.returncode, done.stdout)


def upgrade_refused(code: str, *arguments: str) -> None:
    """A run that must fail with the problem of this code."""
    run = upgrade(*arguments)
    expect(run.code != 0, f"this run must fail: {' '.join(arguments)}")
    print(find_problem(run.problems(), code), flush=True)


def upgrade_passed() -> AnsibleRun:
    """A run that must pass."""
    run = upgrade()
    expect(run.code == 0, f"the upgrade fails: {run.error}")
    for host in run.stats:
        print(host, json.dumps(run.fact("kubepin_upgrade_result", host)), flush=True)
    return run


def install(manager: Manager) -> None:
    """Serve the repository from the control plane node, and replace the nodes' programs by its packages of 1.21."""
    serve = f"python3 -m http.server {PORT} --directory {BUILDS_MOUNT}/{FOLDER}"
    on_node(CONTROL_PLANE, f"systemd-run --quiet --unit stand-in-repository {serve}")
    template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = output_of("docker", "inspect", "-f", template, CONTROL_PLANE).strip()
    unit = "/etc/systemd/system/kubelet.service"
    for node in NODES:
        on_node(
            node,
            f"grep -q '{CONTROL_PLANE}' /etc/hosts || echo '{address} {CONTROL_PLANE}' >>/etc/hosts\n"
            f"systemctl stop kubelet\n"
            f"rm -rf /usr/bin/{{kubeadm,kubelet,kubectl,crictl}} {unit} {unit}.d\n"
            f"{manager.install}\n"
            "systemctl daemon-reload\n"
            "systemctl restart kubelet",
        )


def try_all(manager: Manager, builds: Path) -> None:
    """All of it on a fresh sandbox."""
    say(f"{BEFORE} from packages, with the stand-in repository on the control plane node")
    publish(builds, builds / FOLDER, manager.kind, broken=True)
    install(manager)
    playbook("molecule/upgrade/prepare.yml")
    show_nodes(manager)
    say("a version that the repository does not have")
    upgrade_refused("source", "--check", "-e", "kubeadm_upgrade_target=1.22.16")
    say("the kubelet's package is broken: undone, the packages too")
    upgrade_refused("upgrade_undone", "-e", "kubeadm_upgrade_timeout=30")
    show_nodes(manager)
    check_nodes(manager, manager.old)
    say("the package is repaired, the run repeated")
    publish(builds, builds / FOLDER, manager.kind)
    upgrade_passed()
    show_nodes(manager)
    check_nodes(manager, manager.new)
    say("once more")
    expect(upgrade_passed().changed_nothing, "a further run changed something")
    say("tuned as before, and a kubeadm upgrade node by hand")
    playbook("molecule/upgrade/verify.yml")
    configuration = json.loads(on_node(CONTROL_PLANE, f"{KUBECTL} get --raw /api/v1/nodes/{WORKER}/proxy/configz"))
    print({key: configuration["kubeletconfig"].get(key) for key in ("cpuManagerPolicy", "reservedSystemCPUs")})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("manager", choices=list(MANAGERS))


def run(options: argparse.Namespace) -> int:
    """On a sandbox of its own."""
    manager = MANAGERS[options.manager]
    paths = Paths.from_environment()
    if missing := lacking_packages(manager.packages):
        say(f"installing {', '.join(missing)}, which make {manager.kind} packages")
        install_packages(Shell(Log(paths.cache / "host-setup.log")), missing, "this campaign")
    builds = paths.builds
    shutil.rmtree(builds / FOLDER, ignore_errors=True)
    with new_sandbox(NAME, BEFORE, workers=1, builds=(BEFORE, AFTER)):
        try:
            try_all(manager, builds)
        finally:
            shutil.rmtree(builds / FOLDER, ignore_errors=True)
    return 0
