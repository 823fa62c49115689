# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags, certificates, checksums, snapshots, removed APIs, lost settings: the small rules that an upgrade rests on."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.upgrade.flags import (
    flag_problems,
    unknown_flag,
    without_flags,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.control.upgrade.removed_apis import (
    judged_requests,
    written_with,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import etcd
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.certificates import (
    CertificateError,
    expiry_of,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.node_steps import lost_settings, wanted_again
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import (
    Source,
    checksum_of,
    source_problems,
    stage,
)

NOT_AFTER = 1893553445.0  # 2030-01-02 03:04:05 UTC


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content


def certificate(not_after: bytes = b"300102030405Z", tag: int = 0x17) -> str:
    validity = der(0x30, der(0x17, b"200101000000Z"), der(tag, not_after))
    tbs = der(0x30, der(0xA0, der(2, b"\x02")), der(2, b"\x01"), der(0x30, b""), der(0x30, b"\x00" * 130), validity)
    body = base64.b64encode(der(0x30, tbs)).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


def test_expiry_of_a_pem_and_of_a_kubeconfig() -> None:
    pem = certificate()
    assert expiry_of(pem) == NOT_AFTER
    embedded = base64.b64encode(pem.encode()).decode()
    assert expiry_of(f"users:\n- user:\n    client-certificate-data: {embedded}\n") == NOT_AFTER
    assert expiry_of(certificate(b"20500102030405Z", 0x18)) > NOT_AFTER


def test_a_text_without_certificate() -> None:
    with pytest.raises(CertificateError):
        expiry_of("nothing")


def test_a_snapshot_is_whole_or_refused() -> None:
    data = b"etcd" * 1000
    whole = data + hashlib.sha256(data).digest()

    def stream(content: bytes) -> list[bytes]:
        pieces = [content[index : index + 777] for index in range(0, len(content), 777)]
        return [json.dumps({"result": {"blob": base64.b64encode(piece).decode()}}).encode() for piece in pieces]

    file = io.BytesIO()
    assert etcd._copy(stream(whole), file) == len(whole)
    assert file.getvalue() == whole
    with pytest.raises(ValueError, match="cut off"):
        etcd._copy(stream(whole)[:-1], io.BytesIO())
    with pytest.raises(ValueError, match="denied"):
        etcd._copy([b'{"error": "denied"}'], io.BytesIO())


def test_the_kubelets_own_word_on_a_flag() -> None:
    assert unknown_flag('err="failed to parse kubelet flag: unknown flag: --network-plugin"') == "network-plugin"
    assert unknown_flag("Kubernetes v1.22.17") is None


def test_flags_that_mean_something_block_those_that_do_not_are_taken_out() -> None:
    line = ["/usr/bin/kubelet", "--network-plugin=cni", "--dynamic-config-dir=/x"]
    assert flag_problems(line, 22) == []
    assert [problem.split()[4] for problem in flag_problems(line, 24)] == ["--dynamic-config-dir,"]


def test_flags_leave_both_environment_files_and_nothing_else_changes() -> None:
    kubeadm = 'KUBELET_KUBEADM_ARGS="--container-runtime=remote --network-plugin cni --node-ip=1.2.3.4"\n'
    assert (
        without_flags(kubeadm, ["container-runtime", "network-plugin"]) == 'KUBELET_KUBEADM_ARGS="--node-ip=1.2.3.4"\n'
    )
    extra = 'A=1\nKUBELET_EXTRA_ARGS="--cpu-manager-policy=static --redirect-container-streaming=false"\n'
    assert without_flags(extra, ["redirect-container-streaming"]) == (
        "A=1\nKUBELET_EXTRA_ARGS=--cpu-manager-policy=static\n"
    )
    assert without_flags(kubeadm, ["v"]) == kubeadm


def test_settings_that_kubeadm_takes_away_are_asked_for_again() -> None:
    before = {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0", "topologyManagerPolicy": "none"}
    after = {"cpuManagerPolicy": "none", "topologyManagerPolicy": "none"}
    assert lost_settings(before, after) == {"cpuManagerPolicy": "static", "reservedSystemCPUs": "0"}
    assert lost_settings(before, before) == {}
    wanted = wanted_again(before)
    assert (wanted.policy, wanted.reserved_cpus, wanted.reserved_memory) == ("static", "0", None)


def test_which_requests_can_only_be_a_clients() -> None:
    def request(group: str, resource: str, removed: str) -> dict[str, str]:
        return {"group": group, "version": "v1beta1", "resource": resource, "removed_release": removed}

    garbage_collector = request("extensions", "ingresses", "1.22")
    client = request("storage.k8s.io", "csinodes", "1.22")
    perhaps_own = request("discovery.k8s.io", "endpointslices", "1.25")
    requests = [garbage_collector, client, perhaps_own, {"group": "x"}]
    assert judged_requests(requests, 25) == ([client], [perhaps_own])
    assert judged_requests(requests, 22) == ([client], [])
    assert judged_requests(requests, 21) == ([], [])


def test_built_in_objects_that_the_api_server_writes_anew_are_nobodys() -> None:
    def flow_schema(**annotations: str) -> dict[str, Any]:
        fields = [{"manager": "kubectl-edit", "apiVersion": "flowcontrol.apiserver.k8s.io/v1beta1"}]
        return {"metadata": {"name": "probes", "managedFields": fields, "annotations": annotations}}

    api = "flowcontrol.apiserver.k8s.io/v1beta1"
    assert written_with(flow_schema(**{"apf.kubernetes.io/autoupdate-spec": "true"}), api) == []
    assert written_with(flow_schema(**{"apf.kubernetes.io/autoupdate-spec": "false"}), api) == ["kubectl-edit"]


def test_who_wrote_an_object_with_an_old_version() -> None:
    item = {
        "metadata": {
            "managedFields": [
                {"manager": "helm", "apiVersion": "networking.k8s.io/v1beta1"},
                {"manager": "kube-controller-manager", "apiVersion": "networking.k8s.io/v1beta1"},
                {"manager": "nginx", "apiVersion": "networking.k8s.io/v1"},
            ],
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": '{"apiVersion": "networking.k8s.io/v1beta1"}'
            },
        }
    }
    assert written_with(item, "networking.k8s.io/v1beta1") == ["helm", "kubectl apply"]
    assert written_with({"metadata": {}}, "networking.k8s.io/v1beta1") == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "1.22.17"
    where.mkdir()
    for program in ("kubeadm", "kubelet", "kubectl"):
        (where / program).write_text(program)
        (where / f"{program}.sha256").write_text(hashlib.sha256(program.encode()).hexdigest() + "\n")
    return tmp_path


def test_programs_are_staged_once_and_verified(folder: Path, tmp_path: Path) -> None:
    source = Source(f"{folder}/{{version}}")
    assert source_problems(source, "1.22.17", False) == []
    path = Path(stage(source, "1.22.17", "kubelet", str(tmp_path)))
    assert path.read_text() == "kubelet"
    assert path.stat().st_mode & 0o111
    (folder / "1.22.17" / "kubelet").unlink()
    assert stage(source, "1.22.17", "kubelet", str(tmp_path)) == str(path)


def test_every_problem_of_a_source_is_named(folder: Path) -> None:
    (folder / "1.22.17" / "kubeadm").write_text("something else")
    (folder / "1.22.17" / "kubelet.sha256").unlink()
    (folder / "1.22.17" / "kubectl").unlink()
    source = Source(f"{folder}/{{version}}", image_archives=[f"{folder}/{{version}}/*.tar"])
    found = source_problems(source, "1.22.17", False)
    assert len(found) == 1, "one line for a version"
    for part in ("is not what its checksum says", "has no checksum", "is not on this node", "No image archive"):
        assert part in found[0]


def test_what_all_programs_lack_is_told_once(folder: Path) -> None:
    [found] = source_problems(Source(f"{folder}/{{version}}"), "1.21.14", False)
    assert found == (
        f"{folder}/1.21.14/{{kubeadm,kubelet,kubectl}} is not on this node. Put it there with its .sha256, or correct the folder."
    )


def test_given_checksums_count_before_those_beside_the_program(folder: Path, tmp_path: Path) -> None:
    source = Source(f"{folder}/{{version}}", {"1.22.17": {"kubelet": "0" * 64}})
    assert checksum_of(source, "1.22.17", "kubelet") == "0" * 64
    with pytest.raises(TuningError, match="Fetch it again"):
        stage(source, "1.22.17", "kubelet", str(tmp_path))
