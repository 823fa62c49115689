# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from a stand-in for the release hosts: a local HTTP server with the same paths."""

import base64
import hashlib
import http.server
import io
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from sandbox import download
from sandbox.artefacts import Artefacts
from sandbox.download import Limits
from sandbox.gobuild import KUBERNETES_COMMANDS, KubernetesBuild
from sandbox.progress import Durations, run_steps
from sandbox.releases import (
    KUBERNETES_TRUST,
    ORIGINS,
    Outcome,
    Program,
    Progress,
    Releases,
    describe_origins,
    downloads_from_environment,
    parse_checksum,
    parse_downloads,
    read_origins,
)
from sandbox.settings import Paths, SandboxError, Version
from sandbox.shell import Log, Shell

CONTENT = bytes(range(256)) * 1200  # 307 kB: more than what the socket buffers hide
AT_ONCE = Limits(pause=0)
SIGNED, UNSIGNED = Version(1, 36, 3), Version(1, 22, 17)


@dataclass
class File:
    """What the stand-in has at a path, and how it misbehaves."""

    content: bytes
    cut_after: int | None = None
    cuts: int = 0
    resumes: bool = True
    hangs_after: int | None = None
    trickles: bool = False
    status: int = 200


@dataclass
class StandIn:
    """A stand-in for dl.k8s.io and github.com."""

    files: dict[str, File] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    began: threading.Event = field(default_factory=threading.Event)
    """Set once the first byte of a program that trickles is on its way."""
    ended: threading.Event = field(default_factory=threading.Event)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def publish(self, program: Program, content: bytes = CONTENT, **behaviour: object) -> None:
        """Offer a program and its checksum."""
        if program.member:
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                info = tarfile.TarInfo(program.member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            content = packed.getvalue()
        path = f"/{program.host}/{program.path}"
        self.files[path] = File(content, **behaviour)  # type: ignore[arg-type]
        line = f"{hashlib.sha256(content).hexdigest()}  {path.rsplit('/', 1)[-1]}\n"
        self.files[f"/{program.host}/{program.checksums}"] = File(line.encode())

    def sign(self, program: Program, signature: bytes, certificate: bytes) -> None:
        """Offer a signature as dl.k8s.io does: base64 of DER, and base64 of PEM."""
        path = f"/{program.host}/{program.path}"
        self.files[f"{path}.sig"] = File(base64.b64encode(signature))
        self.files[f"{path}.cert"] = File(base64.b64encode(certificate))


class Handler(http.server.BaseHTTPRequestHandler):
    stand_in: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_error(404)

    def do_GET(self) -> None:
        here = self.stand_in
        with here.lock:
            here.asked.append(self.path)
        file = here.files.get(self.path)
        if file is None or file.status != 200:
            self.send_error(file.status if file else 404)
            return
        content = file.content
        asked = self.headers.get("Range")
        if asked:
            here.ranges.append(asked)
        if asked and file.resumes:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            content = content[start:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(file.content) - 1}/{len(file.content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if file.cuts and file.cut_after is not None:
            file.cuts -= 1
            self.wfile.write(content[: file.cut_after])
            self.close_connection = True
        elif file.hangs_after is not None:
            self.wfile.write(content[: file.hangs_after])
            self.wfile.flush()
            here.ended.wait(120)
        elif file.trickles:
            for byte in content:
                if here.ended.wait(0.05):
                    return
                self.wfile.write(bytes([byte]))
                here.began.set()
        else:
            with here.lock:
                here.at_once += 1
                here.most_at_once = max(here.most_at_once, here.at_once)
            time.sleep(0.02)
            with here.lock:
                here.at_once -= 1
            self.wfile.write(content)


@pytest.fixture
def hosts() -> Iterator[StandIn]:
    stand_in = StandIn()
    handler = type("ThisHandler", (Handler,), {"stand_in": stand_in})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that gave up
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    yield stand_in
    stand_in.ended.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(Log(tmp_path / "log"))


@pytest.fixture
def kubelet(tmp_path: Path) -> Program:
    return Program.of_kubernetes(UNSIGNED, "kubelet", tmp_path / "bin" / "kubelet")


def nothing_left(folder: Path) -> bool:
    """Whether a folder has no program, whole or unfinished, or is not even there."""
    return not folder.exists() or {path.name for path in folder.iterdir()} <= {ORIGINS}


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, check=True, capture_output=True).stdout


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, in the place of Fulcio."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        folder.mkdir()
        new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl(
            *("req", "-x509", *new_key, "-keyout", str(folder / "ca.key"), "-out", str(folder / "root.pem")),
            *("-subj", "/CN=test authority", "-days", "1"),
        )
        openssl("req", *new_key, "-keyout", str(folder / "key"), "-out", str(folder / "request"), "-subj", "/CN=x")
        return cls(folder)

    def certificate(
        self, email: str = KUBERNETES_TRUST.email, issuer: str = KUBERNETES_TRUST.issuer, use: str = "codeSigning"
    ) -> bytes:
        """A certificate like Fulcio's, which has expired."""
        extensions = self.folder / "extensions"
        extensions.write_text(
            f"subjectAltName=critical,email:{email}\nextendedKeyUsage={use}\n"
            f"1.3.6.1.4.1.57264.1.1=DER:{issuer.encode().hex()}\n"
        )
        return openssl(
            *("x509", "-req", "-in", str(self.folder / "request"), "-extfile", str(extensions), "-days", "-1"),
            *("-CA", str(self.root), "-CAkey", str(self.folder / "ca.key"), "-CAcreateserial"),
        )

    def sign(self, content: bytes) -> bytes:
        return openssl("dgst", "-sha256", "-sign", str(self.folder / "key"), stdin=content)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority") / "ours")


@pytest.fixture
def signed(tmp_path: Path, authority: Authority) -> Program:
    """A program whose signer is certified by the test's authority."""
    program = Program.of_kubernetes(SIGNED, "kubeadm", tmp_path / "bin" / "kubeadm")
    return replace(program, trust=replace(KUBERNETES_TRUST, authorities=authority.root))


def test_a_good_file_appears_executable_with_its_origin(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet)
    seen: list[Progress] = []
    outcome = Releases(shell, hosts.url, AT_ONCE).get([kubelet], seen.append)
    assert kubelet.output.read_bytes() == CONTENT
    assert kubelet.output.stat().st_mode & 0o777 == 0o755
    assert (seen[-1].received, seen[-1].expected) == (len(CONTENT), len(CONTENT))
    assert read_origins(kubelet.output.parent)["kubelet"] == {
        "from": f"{hosts.url}/dl.k8s.io/{kubelet.path}",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "verified": ["SHA-256"],
    }
    assert str(outcome) == "1 downloaded, 0 MB, checksums verified; no signature"
    assert describe_origins(kubelet.output.parent, ["kubelet"]) == "all downloaded, verified by SHA-256"
    assert {path.name for path in kubelet.output.parent.iterdir()} == {"kubelet", ORIGINS}


def test_releases_before_1_26_are_not_asked_for_signatures(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet)
    Releases(shell, hosts.url, AT_ONCE).get([kubelet])
    assert not [path for path in hosts.asked if path.endswith((".sig", ".cert"))]


def test_archives_give_the_program_in_them(hosts: StandIn, shell: Shell, tmp_path: Path) -> None:
    programs = [
        Program.of_etcd("3.6.5", tmp_path / "etcd-3.6.5/bin/etcd"),
        Program.of_coredns("1.12.4", tmp_path / "coredns-1.12.4/bin/coredns"),
    ]
    for program in programs:
        hosts.publish(program, program.name.encode())
    Releases(shell, hosts.url, AT_ONCE).get(programs)
    for program in programs:
        assert program.output.read_bytes() == program.name.encode()
        assert program.output.stat().st_mode & 0o777 == 0o755
        assert len(list(program.output.parent.iterdir())) == 2


def test_an_archive_without_the_program_is_not_used(hosts: StandIn, shell: Shell, tmp_path: Path) -> None:
    program = Program.of_etcd("3.6.5", tmp_path / "bin/etcd")
    hosts.publish(replace(program, member="README"))
    assert "has an archive without etcd-v3.6.5" in str(Releases(shell, hosts.url, AT_ONCE).get([program]))
    assert nothing_left(program.output.parent)


def test_a_wrong_checksum_stops(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet)
    hosts.files[f"/dl.k8s.io/{kubelet.path}"].content = CONTENT[::-1]
    with pytest.raises(SandboxError) as stopped:
        Releases(shell, hosts.url, AT_ONCE).get([kubelet])
    for word in (kubelet.path, *(hashlib.sha256(c).hexdigest() for c in (CONTENT, CONTENT[::-1])), "DOWNLOADS=never"):
        assert word in str(stopped.value)
    assert nothing_left(kubelet.output.parent)


@pytest.mark.parametrize("resumes", [True, False])
def test_a_cut_file_is_asked_for_again(hosts: StandIn, shell: Shell, kubelet: Program, resumes: bool) -> None:
    hosts.publish(kubelet, cut_after=100_000, cuts=2, resumes=resumes)
    Releases(shell, hosts.url, AT_ONCE).get([kubelet])
    assert kubelet.output.read_bytes() == CONTENT
    second = 200_000 if resumes else 100_000
    assert hosts.ranges == ["bytes=100000-", f"bytes={second}-"]


def test_a_file_cut_three_times_is_built(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet, cut_after=1000, cuts=3)
    outcome = Releases(shell, hosts.url, AT_ONCE).get([kubelet])
    assert str(outcome) == (f"{hosts.url}/dl.k8s.io ends after 3000 of {len(CONTENT)} bytes, 3 times: building kubelet")
    assert nothing_left(kubelet.output.parent)
    assert describe_origins(kubelet.output.parent, ["kubelet"]) == "all built from source"


@pytest.mark.parametrize(("status", "words"), [(404, "has no such file (404)"), (403, "refuses it (403 Forbidden)")])
def test_a_missing_file_is_built_and_the_others_are_not(
    hosts: StandIn, shell: Shell, tmp_path: Path, status: int, words: str
) -> None:
    there, missing = (Program.of_kubernetes(UNSIGNED, name, tmp_path / "bin" / name) for name in ("kubeadm", "kubelet"))
    hosts.publish(there)
    hosts.publish(missing, status=status)
    outcome = Releases(shell, hosts.url, AT_ONCE).get([there, missing])
    assert str(outcome).endswith(f"; {hosts.url}/dl.k8s.io {words}: building kubelet")
    assert describe_origins(tmp_path / "bin", ["kubeadm", "kubelet"]) == (
        "kubeadm downloaded, verified by SHA-256; kubelet built from source"
    )


def test_without_a_checksum_nothing_is_used(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet)
    hosts.files[f"/dl.k8s.io/{kubelet.checksums}"].content = b"<html>Please log in</html>"
    assert "has no checksum of kubelet" in str(Releases(shell, hosts.url, AT_ONCE).get([kubelet]))
    assert nothing_left(kubelet.output.parent)


@pytest.mark.parametrize(
    ("behaviour", "limits", "words"),
    [
        ({"trickles": True}, Limits(window=0.4, pause=0), "is slow (0.0 kB/s"),
        ({"hangs_after": 5}, Limits(silence=2, pause=0), "sent nothing for 2 s"),
    ],
)
def test_a_slow_server_is_given_up(
    hosts: StandIn, shell: Shell, tmp_path: Path, behaviour: dict[str, Any], limits: Limits, words: str
) -> None:
    programs = [Program.of_kubernetes(UNSIGNED, f"kube{n}", tmp_path / "bin" / f"kube{n}") for n in range(6)]
    for program in programs:
        hosts.publish(program, **behaviour)
    outcome = Releases(shell, hosts.url, limits).get(programs)
    assert words in str(outcome)
    assert set(outcome.reasons) == {program.name for program in programs}
    assert len([path for path in hosts.asked if "sha256" not in path]) == 4, "the others were not even asked for"
    assert nothing_left(tmp_path / "bin")


def test_a_stopped_run_ends_its_downloads(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet, trickles=True)

    def stop() -> None:
        hosts.began.wait(120)
        shell.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(download.Cancelled):
        Releases(shell, hosts.url).get([kubelet])
    stopping.join()
    assert nothing_left(kubelet.output.parent)


def test_a_server_that_cannot_be_reached_costs_one_line_and_no_wait(shell: Shell, tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"  # closed again when it is used
    programs = [Program.of_kubernetes(SIGNED, name, tmp_path / "bin" / name) for name in ("kubeadm", "kubelet")]
    limits = Limits(connect=120, pause=120)
    began = time.monotonic()
    outcome = Releases(shell, url, limits).get(programs)
    assert str(outcome) == f"{url}/dl.k8s.io cannot be reached (Connection refused): building kubeadm, kubelet"
    assert time.monotonic() - began < limits.pause


def test_never_asks_nothing(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet)
    assert str(Releases(shell, "never").get([kubelet])) == "KUBEPIN_DOWNLOADS is never: building kubelet"
    assert not hosts.asked


def test_four_at_a_time(hosts: StandIn, shell: Shell, tmp_path: Path) -> None:
    programs = [Program.of_kubernetes(UNSIGNED, f"kube{n}", tmp_path / "bin" / f"kube{n}") for n in range(8)]
    for program in programs:
        hosts.publish(program)
    assert len(Releases(shell, hosts.url, AT_ONCE).get(programs).signed) == 8
    assert 2 <= hosts.most_at_once <= 4
    assert set(read_origins(tmp_path / "bin")) == {program.name for program in programs}


def test_a_full_disk_is_a_clear_error(hosts: StandIn, shell: Shell, kubelet: Program) -> None:
    hosts.publish(kubelet)
    kubelet.output.parent.mkdir()
    (kubelet.output.parent / ".kubelet.unfinished").symlink_to("/dev/full")
    with pytest.raises(SandboxError, match=r"bin/kubelet: No space left on device\.\nMake room"):
        Releases(shell, hosts.url, AT_ONCE).get([kubelet])
    assert nothing_left(kubelet.output.parent)


def test_a_good_signature_is_verified(hosts: StandIn, shell: Shell, signed: Program, authority: Authority) -> None:
    hosts.publish(signed)
    hosts.sign(signed, authority.sign(CONTENT), authority.certificate())
    outcome = Releases(shell, hosts.url, AT_ONCE).get([signed])
    assert str(outcome) == "1 downloaded, 0 MB, checksums and signatures verified"
    assert read_origins(signed.output.parent)["kubeadm"]["verified"] == ["SHA-256", "signature"]
    assert describe_origins(signed.output.parent, ["kubeadm"]) == "all downloaded, verified by SHA-256 and signature"


def test_a_missing_signature_leaves_the_checksum_and_is_said(hosts: StandIn, shell: Shell, signed: Program) -> None:
    hosts.publish(signed)
    outcome = Releases(shell, hosts.url, AT_ONCE).get([signed])
    assert str(outcome) == "1 downloaded, 0 MB, checksums verified; no signature"
    assert f"/dl.k8s.io/{signed.path}.sig" in hosts.asked
    assert read_origins(signed.output.parent)["kubeadm"]["verified"] == ["SHA-256"]


def test_a_signature_that_cannot_be_fetched_is_not_a_missing_one(
    hosts: StandIn, shell: Shell, signed: Program, authority: Authority
) -> None:
    hosts.publish(signed)
    hosts.sign(signed, authority.sign(CONTENT), authority.certificate())
    hosts.files[f"/dl.k8s.io/{signed.path}.cert"].status = 503
    assert "answers 503" in str(Releases(shell, hosts.url, AT_ONCE).get([signed]))
    assert nothing_left(signed.output.parent)


def other_authority(authority: Authority) -> Authority:
    folder = authority.folder.with_name("theirs")
    return Authority(folder) if folder.exists() else Authority.make(folder)


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        pytest.param(
            lambda ca: (ca.sign(b"other"), ca.certificate()), "not the signature of this file", id="other content"
        ),
        pytest.param(
            lambda ca: (ca.sign(CONTENT), ca.certificate(email="krel@evil.example")),
            "names another signer",
            id="signer",
        ),
        pytest.param(
            lambda ca: (ca.sign(CONTENT), ca.certificate(issuer="https://evil.example")), "57264.1.1", id="issuer"
        ),
        pytest.param(
            lambda ca: (ca.sign(CONTENT), ca.certificate(use="serverAuth")), "Extended Key Usage", id="not for code"
        ),
        pytest.param(
            lambda ca: (other_authority(ca).sign(CONTENT), other_authority(ca).certificate()),
            "not issued by the expected authority",
            id="other authority",
        ),
        pytest.param(lambda ca: (b"", b"not a certificate"), "certificate cannot be read", id="no certificate"),
    ],
)
def test_a_wrong_signature_stops(
    hosts: StandIn, shell: Shell, signed: Program, authority: Authority, forge: Any, words: str
) -> None:
    hosts.publish(signed)
    hosts.sign(signed, *forge(authority))
    with pytest.raises(SandboxError) as stopped:
        Releases(shell, hosts.url, AT_ONCE).get([signed])
    assert words in str(stopped.value)
    assert f"expected: a signature of {KUBERNETES_TRUST.email}" in str(stopped.value)
    assert nothing_left(signed.output.parent)


def test_the_authority_of_the_host_system_does_not_count(
    hosts: StandIn, shell: Shell, signed: Program, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = other_authority(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(other.root))
    hosts.publish(signed)
    hosts.sign(signed, other.sign(CONTENT), other.certificate())
    with pytest.raises(SandboxError, match="not issued by the expected authority"):
        Releases(shell, hosts.url, AT_ONCE).get([signed])


def test_the_pinned_authorities_are_a_chain() -> None:
    answer = openssl("verify", "-no_check_time", "-no-CApath", "-CAfile", *[str(KUBERNETES_TRUST.authorities)] * 2)
    assert answer.decode().strip().endswith(": OK")
    assert KUBERNETES_TRUST.authorities.read_text().count("BEGIN CERTIFICATE") == 2


def test_a_redirect_away_from_https_is_refused() -> None:
    request = urllib.request.Request("https://dl.k8s.io/release/kubelet")
    handler = download._NoDowngrade()
    with pytest.raises(urllib.error.URLError, match="which is not HTTPS"):
        handler.redirect_request(request, io.BytesIO(), 302, "Found", Message(), "http://cdn.example/kubelet")
    assert handler.redirect_request(request, io.BytesIO(), 302, "Found", Message(), "https://cdn.example/kubelet")


@pytest.mark.parametrize(
    "text",
    [
        "always",
        "",
        "mirror.example",
        "ftp://mirror.example",
        "https://",
        "http://mirror.example:port",
        "https://user:secret@mirror.example",
        "https://mirror.example/?path=",
    ],
)
def test_a_wrong_setting_is_refused(text: str) -> None:
    with pytest.raises(SandboxError, match=r'KUBEPIN_DOWNLOADS is ".*": expected auto .*, never, or the base URL'):
        parse_downloads(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("auto", "auto"), ("never", "never"), ("http://[::1]:8099/mirror/", "http://[::1]:8099/mirror")],
)
def test_settings(text: str, expected: str) -> None:
    assert parse_downloads(text) == expected


@pytest.mark.parametrize("text", [None, ""])
def test_the_default_is_auto(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.delenv("KUBEPIN_DOWNLOADS", raising=False)
    if text is not None:
        monkeypatch.setenv("KUBEPIN_DOWNLOADS", text)
    assert downloads_from_environment() == "auto"


def test_addresses_of_the_release_hosts(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    programs = [
        Program.of_kubernetes(SIGNED, "kubelet", Path("x")),
        Program.of_etcd("3.6.5", Path("x")),
        Program.of_coredns("1.12.4", Path("x")),
    ]
    releases = Releases(shell, "auto")
    assert [[releases.url(p.host, path) for path in (p.path, p.checksums)] for p in programs] == [
        [
            "https://dl.k8s.io/release/v1.36.3/bin/linux/arm64/kubelet",
            "https://dl.k8s.io/release/v1.36.3/bin/linux/arm64/kubelet.sha256",
        ],
        [
            "https://github.com/etcd-io/etcd/releases/download/v3.6.5/etcd-v3.6.5-linux-arm64.tar.gz",
            "https://github.com/etcd-io/etcd/releases/download/v3.6.5/SHA256SUMS",
        ],
        [
            "https://github.com/coredns/coredns/releases/download/v1.12.4/coredns_1.12.4_linux_arm64.tgz",
            "https://github.com/coredns/coredns/releases/download/v1.12.4/coredns_1.12.4_linux_arm64.tgz.sha256",
        ],
    ]


SUM = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SUM, SUM),
        (f"{SUM.upper()}\n", SUM),
        (f"{'f' * 64}  other.tgz\n{SUM}  file.tgz\n", SUM),
        (f"{SUM} *release/file.tgz\n", SUM),
        (f"{SUM}  other.tgz\n", None),
        (SUM[:-1], None),
        ("<html>", None),
        ("", None),
    ],
)
def test_checksums(text: str, expected: str | None) -> None:
    assert parse_checksum(text, "file.tgz") == expected


@pytest.mark.parametrize(
    ("missing", "built"), [((), []), (("kubelet", "kubectl"), [["kubelet", "kubectl"]]), (("kubeadm",), [["kubeadm"]])]
)
def test_only_what_cannot_be_had_is_built(
    hosts: StandIn,
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: tuple[str, ...],
    built: list[list[str]],
) -> None:
    asked: list[list[str]] = []

    def build(self: KubernetesBuild, commands: list[str]) -> None:
        asked.append(commands)
        for command in commands:
            self.binary(command).write_bytes(b"built")

    monkeypatch.setattr(KubernetesBuild, "build", build)
    monkeypatch.setattr(KubernetesBuild, "prepare", lambda self: asked.append([]))
    monkeypatch.setenv("KUBEPIN_DOWNLOADS", hosts.url)
    artefacts = Artefacts(Paths(tmp_path), shell, SIGNED)
    for name in KUBERNETES_COMMANDS:
        if name not in missing:
            hosts.publish(Program.of_kubernetes(SIGNED, name, Path("-")))
    run_steps(artefacts._missing_kubernetes(), Durations(tmp_path / "durations"), shell.stop)
    assert asked == ([[], *built] if built else [])
    binaries = {name: artefacts.kubernetes.binary(name).read_bytes() for name in KUBERNETES_COMMANDS}
    assert binaries == {name: b"built" if name in missing else CONTENT for name in KUBERNETES_COMMANDS}
    digest = hashlib.sha256(binaries["kubelet"]).hexdigest()
    assert artefacts.kubernetes.binary("kubelet.sha256").read_text() == f"{digest}\n"
    assert ("building" in capsys.readouterr().out) == bool(missing)


def test_one_line_says_it_all() -> None:
    outcome = Outcome({"kubeadm": True, "kube-proxy": False}, {}, 75_000_000)
    assert str(outcome) == "2 downloaded, 75 MB, checksums verified; no signature for kube-proxy"
    outcome = Outcome({"kubeadm": True}, {"kubelet": "the host is slow", "kubectl": "the host is slow"}, 75_000_000)
    assert str(outcome) == (
        "1 downloaded, 75 MB, checksums and signatures verified; the host is slow: building kubelet, kubectl"
    )
