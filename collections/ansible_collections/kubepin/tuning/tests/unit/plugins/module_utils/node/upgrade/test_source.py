# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import functools
import hashlib
import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import (
    Source,
    _KeepsHttps,
    checksum_of,
    source_problems,
    stage,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.problems import refused


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
    codes = [problem.code for problem in found]
    assert codes == ["checksum_differs", "checksum_missing", "program_missing", "image_archive_missing"]


def test_what_all_programs_lack_is_named_once(folder: Path) -> None:
    [found] = source_problems(Source(f"{folder}/{{version}}"), "1.21.14", False)
    assert (found.code, found.subject) == ("program_missing", f"{folder}/1.21.14/{{kubeadm,kubelet,kubectl}}")


def test_given_checksums_count_before_those_beside_the_program(folder: Path, tmp_path: Path) -> None:
    source = Source(f"{folder}/{{version}}", {"1.22.17": {"kubelet": "0" * 64}})
    assert checksum_of(source, "1.22.17", "kubelet") == "0" * 64
    with refused("checksum_differs"):
        stage(source, "1.22.17", "kubelet", str(tmp_path))


class Files(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTP; what is below /moved/ is elsewhere."""

    def do_GET(self) -> None:
        if self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.replace("/moved/", "/"))
            self.end_headers()
        else:
            super().do_GET()

    do_HEAD = do_GET  # noqa: N815 - as http.server calls it

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    """The URL of the folder, over http."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_programs_over_http_are_taken_by_given_checksums_only(url: str, tmp_path: Path) -> None:
    [found] = source_problems(Source(f"{url}/{{version}}"), "1.22.17", False)
    assert (found.code, found.subject) == ("checksum_unprotected", "{kubeadm,kubelet,kubectl} 1.22.17")
    given = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("kubeadm", "kubelet", "kubectl")}
    source = Source(f"{url}/{{version}}", {"1.22.17": given})
    assert source_problems(source, "1.22.17", False) == []
    assert Path(stage(source, "1.22.17", "kubelet", str(tmp_path))).read_text() == "kubelet"
    moved = Source(f"{url}/moved/{{version}}", {"1.22.17": given})
    assert source_problems(moved, "1.22.17", False) == []


def test_a_redirection_from_https_to_http_is_not_followed() -> None:
    request = urllib.request.Request("https://mirror/kubelet")
    with pytest.raises(urllib.error.URLError, match="redirects to http://elsewhere/kubelet, which is not https"):
        _KeepsHttps().redirect_request(request, None, 302, "Found", {}, "http://elsewhere/kubelet")
