# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes released programs from the pages of their projects, verified; what cannot be had is left to be built."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from sandbox.download import Cancelled, Limits, Missing, SourceFailed, Unavailable, WriteFailed, fetch, probe
from sandbox.images import ARCHITECTURES
from sandbox.settings import SandboxError, Version
from sandbox.shell import Shell
from sandbox.signatures import BadSignature, Trust, check_signature

VARIABLE = "KUBEPIN_DOWNLOADS"
ORIGINS = "origin.json"
PARALLEL = 4

KUBERNETES_HOST, GITHUB_HOST = "dl.k8s.io", "github.com"
# https://kubernetes.io/docs/tasks/administer-cluster/verify-signed-artifacts/
FIRST_SIGNED = (1, 26)
KUBERNETES_TRUST = Trust(
    Path(__file__).with_name("fulcio.pem"),
    email="krel-staging@k8s-releng-prod.iam.gserviceaccount.com",
    issuer="https://accounts.google.com",
)


def parse_downloads(text: str) -> str:
    """Read KUBEPIN_DOWNLOADS: auto, never, or the base URL of a mirror."""
    if text in ("auto", "never"):
        return text
    try:
        url = urlsplit(text)
        fit = url.scheme in ("http", "https") and url.hostname and not (url.query or url.fragment or url.username)
        fit = bool(fit) and (url.port is None or url.port > 0)
    except ValueError:
        fit = False
    if not fit:
        raise SandboxError(
            f'{VARIABLE} is "{text}": expected auto (download where possible), never, or the base URL of a mirror that '
            f"has the paths of the release hosts, such as https://mirror.example/kubepin for "
            f"https://mirror.example/kubepin/{KUBERNETES_HOST}/release/..."
        )
    return text.rstrip("/")


def downloads_from_environment() -> str:
    """KUBEPIN_DOWNLOADS, validated; auto where it is not set."""
    return parse_downloads(os.environ.get(VARIABLE) or "auto")


def architecture() -> str:
    """This machine's architecture in the words of release pages."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True)
class Program:
    """A released program: where its project publishes it, and where it goes here."""

    name: str
    host: str
    path: str
    checksums: str
    output: Path
    member: str | None = None  # its name in the archive that `path` is
    trust: Trust | None = None  # whose signature lies beside it

    @classmethod
    def of_kubernetes(cls, version: Version, name: str, output: Path) -> Program:
        """A program of a Kubernetes release."""
        path = f"release/v{version}/bin/linux/{architecture()}/{name}"
        signed = (version.major, version.minor) >= FIRST_SIGNED
        return cls(name, KUBERNETES_HOST, path, f"{path}.sha256", output, trust=KUBERNETES_TRUST if signed else None)

    @classmethod
    def of_etcd(cls, version: str, output: Path) -> Program:
        """The etcd server."""
        stem = f"etcd-v{version}-linux-{architecture()}"
        folder = f"etcd-io/etcd/releases/download/v{version}"
        return cls("etcd", GITHUB_HOST, f"{folder}/{stem}.tar.gz", f"{folder}/SHA256SUMS", output, f"{stem}/etcd")

    @classmethod
    def of_coredns(cls, version: str, output: Path) -> Program:
        """CoreDNS."""
        path = f"coredns/coredns/releases/download/v{version}/coredns_{version}_linux_{architecture()}.tgz"
        return cls("coredns", GITHUB_HOST, path, f"{path}.sha256", output, "coredns")


def parse_checksum(text: str, file: str) -> str | None:
    """The SHA-256 of a file in a .sha256 or SHA256SUMS; None where there is none."""
    for line in text.splitlines():
        words = line.split()
        named = len(words) == 1 or (len(words) == 2 and words[1].removeprefix("*").rsplit("/", 1)[-1] == file)
        if named and len(words[0]) == 64 and set(words[0].lower()) <= set("0123456789abcdef"):
            return words[0].lower()
    return None


@dataclass(frozen=True)
class Progress:
    """How far the downloads of one call are; `expected` counts the bytes of the files begun so far."""

    received: int
    expected: int
    done: int
    programs: int

    def __str__(self) -> str:
        return f"{self.received / 1e6:.0f} MB, {self.done} of {self.programs} complete"


@dataclass
class Outcome:
    """What one call got, and why it did not get the rest."""

    signed: dict[str, bool] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    received: int = 0

    def __str__(self) -> str:
        parts = []
        if self.signed:
            unsigned = [name for name, signed in self.signed.items() if not signed]
            verified = "checksums and signatures" if not unsigned else "checksums"
            parts.append(f"{len(self.signed)} downloaded, {self.received / 1e6:.0f} MB, {verified} verified")
            if unsigned:
                whose = f" for {', '.join(unsigned)}" if len(unsigned) < len(self.signed) else ""
                parts.append(f"no signature{whose}")
        for reason in dict.fromkeys(self.reasons.values()):
            names = [name for name, its in self.reasons.items() if its == reason]
            parts.append(f"{reason}: building {', '.join(names)}")
        return "; ".join(parts)

    def sorted_as(self, programs: Sequence[Program]) -> Outcome:
        """The same, in the order in which the programs were asked for."""
        names = [program.name for program in programs]
        return Outcome(
            {name: self.signed[name] for name in names if name in self.signed},
            {name: self.reasons[name] for name in names if name in self.reasons},
            self.received,
        )


def read_origins(folder: Path) -> dict[str, dict[str, object]]:
    """What is recorded about the programs of a folder; empty where nothing is."""
    try:
        origins: dict[str, dict[str, object]] = json.loads((folder / ORIGINS).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return origins


def describe_origins(folder: Path, names: Sequence[str]) -> str:
    """One line for the screen: which of the programs were downloaded and how verified, and which were built."""
    origins = read_origins(folder)
    groups: dict[str, list[str]] = {}
    for name in names:
        origin = origins.get(name, {})
        verified = origin.get("verified")
        words = (
            f"downloaded, verified by {' and '.join(verified)}" if isinstance(verified, list) else "built from source"
        )
        groups.setdefault(words, []).append(name)
    if len(groups) == 1:
        return f"all {next(iter(groups))}"
    return "; ".join(f"{', '.join(group)} {words}" for words, group in groups.items())


def _unwritable(program: Program, error: OSError | WriteFailed) -> SandboxError:
    cause = error.__cause__ if isinstance(error, WriteFailed) else error
    return SandboxError(
        f"{program.name} cannot be written to {program.output}: {getattr(cause, 'strerror', None) or cause}.\n"
        f"Make room there, or set KUBEPIN_CACHE to a folder with more of it, and run the command again."
    )


class Releases:
    """The release hosts, or a mirror of them."""

    def __init__(self, shell: Shell, downloads: str, limits: Limits | None = None) -> None:
        self.shell = shell
        self.downloads = downloads
        self.limits = limits or Limits()
        self._failed: dict[str, str] = {}
        self._probed: set[str] = set()
        self._lock = threading.Lock()

    def url(self, host: str, path: str) -> str:
        """Where a path of a host is asked for."""
        base = "https://" if self.downloads == "auto" else f"{self.downloads}/"
        return f"{base}{host}/{path}"

    def source(self, host: str) -> str:
        """A host's name for the screen."""
        return host if self.downloads == "auto" else self.url(host, "").rstrip("/")

    def get(self, programs: Sequence[Program], progress: Callable[[Progress], None] = lambda _: None) -> Outcome:
        """Download the programs, 4 at a time; each appears complete, verified and executable, or not at all.

        Raises SandboxError where a file is not what its project published, or cannot be written.
        """
        outcome = Outcome()
        transfer = _Transfer(self, outcome, len(programs), progress)
        for host in dict.fromkeys(program.host for program in programs):
            self._probe(host)
        pool = ThreadPoolExecutor(PARALLEL)
        futures = [pool.submit(transfer.get, program) for program in programs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            transfer.ended.set()
            pool.shutdown(cancel_futures=True)
        errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
            raise error
        return outcome.sorted_as(programs)

    def _probe(self, host: str) -> None:
        """Find once whether a host can be reached."""
        if self.downloads == "never":
            self._failed[host] = f"{VARIABLE} is never"
        elif not shutil.which("openssl"):
            self._failed[host] = "openssl, which checks signatures, is not installed"
        elif host not in self._probed:
            self._probed.add(host)
            reason = probe(self.url(host, ""), self.limits)
            if reason:
                self._failed[host] = f"{self.source(host)} cannot be reached ({reason})"

    def failure(self, host: str) -> str | None:
        """Why nothing more is asked of a host."""
        with self._lock:
            return self._failed.get(host)

    def give_up(self, host: str, reason: str) -> None:
        """Ask nothing more of a host."""
        with self._lock:
            self._failed[host] = reason


class _Transfer:
    """The downloads of one call."""

    def __init__(self, releases: Releases, outcome: Outcome, count: int, report: Callable[[Progress], None]) -> None:
        self.releases = releases
        self.outcome = outcome
        self.count = count
        self.report = report
        self.ended = threading.Event()
        self._bytes: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def _stopped(self) -> bool:
        return self.ended.is_set() or self.releases.shell.stopped

    def get(self, program: Program) -> None:
        """Download one program, or note why not."""
        try:
            reason = self._try(program)
            if reason:
                with self._lock:
                    self.outcome.reasons[program.name] = reason
                self._record(program, {"built": reason})
        except (OSError, WriteFailed) as error:
            raise _unwritable(program, error) from error

    def _try(self, program: Program) -> str | None:
        """Download one program; say why it cannot be had."""
        reason = self.releases.failure(program.host)
        if not reason:
            try:
                self._download(program)
            except Unavailable as error:
                reason = f"{self.releases.source(program.host)} {error}"
                if isinstance(error, SourceFailed):
                    self.releases.give_up(program.host, reason)
        return reason

    def _fetch(self, program: Program, path: str, sink: BinaryIO, *, counted: bool = False) -> None:
        def count(received: int, expected: int) -> None:
            if counted:
                self._count(program.name, received, expected)

        fetch(self.releases.url(program.host, path), sink, self.releases.limits, self._stopped, count)

    def _count(self, name: str, received: int, expected: int) -> None:
        with self._lock:
            self._bytes[name] = (received, max(received, expected))
            total = [sum(column) for column in zip(*self._bytes.values(), strict=True)]
            self.outcome.received = total[0]
            self.report(Progress(total[0], total[1], len(self.outcome.signed), self.count))

    def _small(self, program: Program, path: str) -> bytes:
        content = io.BytesIO()
        self._fetch(program, path, content)
        return content.getvalue()

    def _download(self, program: Program) -> None:
        file = program.path.rsplit("/", 1)[-1]
        expected = parse_checksum(self._small(program, program.checksums).decode(errors="replace"), file)
        if not expected:
            raise Unavailable(f"has no checksum of {file} in {program.checksums.rsplit('/', 1)[-1]}")
        program.output.parent.mkdir(parents=True, exist_ok=True)
        unfinished = program.output.with_name(f".{program.output.name}.unfinished")
        archive = unfinished if program.member is None else unfinished.with_suffix(".archive")
        try:
            with archive.open("wb") as sink:
                self._fetch(program, program.path, sink, counted=True)
            with archive.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            if digest != expected:
                raise self._tampered(program, f"SHA-256 {expected}", digest)
            signed = self._verify(program, archive)
            if program.member:
                self._extract(archive, program.member, unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(program.output)
        finally:
            for path in {unfinished, archive}:
                path.unlink(missing_ok=True)
        with self._lock:
            self.outcome.signed[program.name] = signed
        verified = ["SHA-256", "signature"] if signed else ["SHA-256"]
        url = self.releases.url(program.host, program.path)
        self._record(program, {"from": url, "sha256": digest, "verified": verified})

    def _verify(self, program: Program, blob: Path) -> bool:
        """Check the signature; False where the source has none."""
        if not program.trust:
            return False
        try:
            signature = self._small(program, f"{program.path}.sig")
            certificate = self._small(program, f"{program.path}.cert")
        except Missing:
            return False
        try:
            check_signature(self.releases.shell, program.trust, blob, signature, certificate)
        except BadSignature as error:
            raise self._tampered(program, f"a signature of {program.trust.email}", str(error)) from error
        return True

    def _tampered(self, program: Program, expected: str, got: str) -> SandboxError:
        return SandboxError(
            f"{program.name} from {self.releases.url(program.host, program.path)} is not what was released:\n"
            f"  expected: {expected}\n"
            f"  got:      {got}\n"
            f"The file was discarded. Find out who changed it: a proxy, a mirror, or a fault of the release. "
            f"`{VARIABLE}=never` builds from source instead."
        )

    def _extract(self, archive: Path, member: str, output: Path) -> None:
        try:
            with tarfile.open(archive) as files:
                source = files.extractfile(member)
                if source is None:
                    raise KeyError(member)
                with output.open("wb") as target:
                    shutil.copyfileobj(source, target)
        except (tarfile.TarError, EOFError, KeyError) as error:
            raise Unavailable(f"has an archive without {member}") from error

    def _record(self, program: Program, origin: Mapping[str, object]) -> None:
        """Write down beside the program where it comes from."""
        folder = program.output.parent
        with self._lock:
            folder.mkdir(parents=True, exist_ok=True)
            origins = {**read_origins(folder), program.output.name: origin}
            unfinished = folder / f".{ORIGINS}.unfinished"
            unfinished.write_text(json.dumps(origins, indent=2, sort_keys=True) + "\n")
            unfinished.rename(folder / ORIGINS)
