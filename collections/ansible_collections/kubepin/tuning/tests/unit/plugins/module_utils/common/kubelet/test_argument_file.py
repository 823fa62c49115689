# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of arguments of MicroK8s and Canonical Kubernetes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.argument_file import (
    SNAPS,
    Snap,
    arguments_in,
    rewrite_arguments,
    snap_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import FlagError
from ansible_collections.kubepin.tuning.tests.unit.samples.snaps import ARGUMENTS, K8S, MICROK8S
from hypothesis import given
from hypothesis import strategies as st

BY_MANAGER = {snap.manager: snap for snap in SNAPS}
MICRO, CANONICAL = BY_MANAGER["microk8s"], BY_MANAGER["k8s-snap"]
ADDED = ["--cpu-manager-policy=static", "--reserved-cpus=0,64", "--reserved-memory=0:memory=1Gi;1:memory=2Gi"]
FLAGS = {"cpu-manager-policy", "reserved-cpus", "reserved-memory"}


def test_what_set_a_node_up_names_its_snap() -> None:
    assert snap_of("microk8s") is MICRO
    assert snap_of("kubeadm") is None


def test_microk8s_gives_the_kubelet_its_lines_without_quotes_and_with_its_folders() -> None:
    found = arguments_in(MICRO, MICROK8S)
    assert len(found) == len(MICROK8S.splitlines())
    assert "--root-dir=/var/snap/microk8s/common/var/lib/kubelet" in found
    assert "--kubeconfig=/var/snap/microk8s/current/credentials/kubelet.config" in found
    assert "--eviction-hard=memory.available<100Mi,nodefs.available<1Gi,imagefs.available<1Gi" in found


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        pytest.param("# comment\n\n  --v=2  \n", ["--v=2"], id="comments and empty lines"),
        pytest.param("--v 2\n", ["--v", "2"], id="a value as an argument of its own"),
        pytest.param("--a='x y'\n", ["--a=x", "y"], id="a space splits, also in quotes"),
        pytest.param("--a=it's\n", ["--a=its"], id="a quote that is not closed"),
        pytest.param("--a=$HOME/${SNAP}\n", ["--a=$HOME//snap/microk8s/current"], id="other variables stay"),
    ],
)
def test_kubelite_s_rules(text: str, arguments: list[str]) -> None:
    """ReadArgsFromFile of its patch."""
    assert arguments_in(MICRO, text) == arguments


SHELL = [
    K8S,
    "--a='x y' --b=\"z\"\n--c=d\n",
    "# a comment\n--a=b\n",
    '--reserved-memory="0:memory=1Gi;1:memory=2Gi"\n',
]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("text", SHELL)
def test_canonical_kubernetes_reads_as_bash_does(tmp_path: Path, text: str) -> None:
    """As `k8s::common::execute` in its lib.sh."""
    file = tmp_path / "kubelet"
    file.write_text(text)
    script = 'declare -a a="($(cat "$1"))"; printf "%s\\0" "${a[@]}"'
    done = subprocess.run(["bash", "-ec", script, "-", str(file)], capture_output=True, text=True, check=True)
    assert arguments_in(CANONICAL, text) == done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("manager", ARGUMENTS)
def test_flags_are_added_and_taken_away_again(manager: str) -> None:
    snap, text = BY_MANAGER[manager], ARGUMENTS[manager]
    written = rewrite_arguments(snap, text, FLAGS, ADDED)
    assert set(arguments_in(snap, written)) == {*arguments_in(snap, text), *ADDED}
    assert set(text.splitlines()) < set(written.splitlines())
    assert rewrite_arguments(snap, written, FLAGS, ADDED) == written
    assert rewrite_arguments(snap, written, FLAGS, []) == text


def test_lines_that_k8sd_sorts_stay_sorted_so_that_its_next_update_changes_nothing() -> None:
    written = rewrite_arguments(CANONICAL, K8S, FLAGS, ADDED)
    lines = written.splitlines()
    assert lines == sorted(lines)
    assert '--reserved-memory="0:memory=1Gi;1:memory=2Gi"' in lines
    assert as_k8sd_updates(written, {"--cluster-domain": "cluster.local"}) == written


def as_k8sd_updates(text: str, update: dict[str, str]) -> str:
    """UpdateServiceArguments in canonical/k8sd@1417866, pkg/snap/util/arguments.go."""
    lines = []
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        key = re.split(r"[ =]", line, maxsplit=1)[0]
        lines.append(f'{key}="{update[key]}"' if key in update else line)
    return "\n".join(sorted(lines)) + "\n"


def test_lines_that_are_not_sorted_keep_their_order() -> None:
    written = rewrite_arguments(MICRO, MICROK8S, FLAGS, ADDED[:2])
    assert written == MICROK8S + "--cpu-manager-policy=static\n--reserved-cpus=0,64\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("--cpu-manager-policy=none\n--v=2\n", "--cpu-manager-policy=static\n--v=2\n", id="replaced"),
        pytest.param("--v=2 --cpu-manager-policy none\n", "--cpu-manager-policy=static\n--v=2\n", id="beside another"),
        pytest.param(
            "--cpu-manager-policy\nnone\n--v=2\n", "--cpu-manager-policy=static\n--v=2\n", id="over two lines"
        ),
        pytest.param("--cpu_manager_policy=none\n", "--cpu-manager-policy=static\n", id="with underscores"),
        pytest.param('--cpu-manager-policy="static"\n', '--cpu-manager-policy="static"\n', id="as wanted already"),
        pytest.param("--v=2", "--cpu-manager-policy=static\n--v=2\n", id="without an end of the last line"),
        pytest.param(None, "--cpu-manager-policy=static\n", id="no file"),
    ],
)
@pytest.mark.parametrize("snap", SNAPS, ids=lambda snap: snap.manager)
def test_an_argument_takes_the_place_of_its_flag(snap: Snap, before: str | None, after: str) -> None:
    assert rewrite_arguments(snap, before, {"cpu-manager-policy"}, ["--cpu-manager-policy=static"]) == after


def test_a_quote_that_a_shell_would_miss_is_an_error_that_names_the_line() -> None:
    with pytest.raises(FlagError, match="a quote is not closed"):
        arguments_in(CANONICAL, '--a="b\n')


@pytest.mark.parametrize("value", ["a b", 'a"b', "a$b", "a`b"])
def test_a_value_that_neither_snap_can_pass_on_is_an_error(value: str) -> None:
    with pytest.raises(FlagError, match="cannot express"):
        rewrite_arguments(MICRO, "", set(), [f"--reserved-cpus={value}"])


@given(st.text(alphabet="-=ab \"'\n#$\\", max_size=60), st.sampled_from(SNAPS))
def test_any_text_is_read_or_refused_and_gets_the_flag(text: str, snap: Snap) -> None:
    try:
        before = arguments_in(snap, text)
    except FlagError:
        return
    written = rewrite_arguments(snap, text, {"reserved-cpus"}, ["--reserved-cpus=0"])
    assert sorted(arguments_in(snap, written)) == sorted([*before, "--reserved-cpus=0"])
