# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a node gets the programs and images of a version from, and whether they are available and intact."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import http.client
import json
import os
import platform
import re
import shutil
import tarfile
import typing as t
import urllib.error
import urllib.request

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import durable_rename
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import problems

UNSIGNED = "unsigned"
"""The `key` of a repository without signatures."""

PROGRAMS = ("kubeadm", "kubelet", "kubectl")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
_SECONDS = 30


SOURCE_ARGUMENTS: t.Dict[str, t.Any] = {
    "binaries": {"type": "str"},
    "packages": {
        "type": "dict",
        "options": {
            "url": {"type": "str", "required": True},
            "suite": {"type": "str", "default": "/"},
            "key": {"type": "str", "no_log": False},
        },
    },
    "checksums": {"type": "dict", "default": {}},
    "image_archives": {"type": "list", "elements": "str", "default": []},
    "control_plane_image_archives": {"type": "list", "elements": "str", "default": []},
}

SOURCE: t.Dict[str, t.Any] = {
    "type": "dict",
    "options": SOURCE_ARGUMENTS,
    "mutually_exclusive": [("binaries", "packages")],
    "required_one_of": [("binaries", "packages")],
}


@dataclasses.dataclass(frozen=True)
class Repository:
    """A package repository; `{minor}` and `{format}` in its URL stand for the version's minor and for deb or rpm."""

    url: str
    suite: str = "/"
    """apt: what follows the URL, either a suite and components or the path of a flat repository."""
    key: t.Optional[str] = None
    """The file of its key on this machine; "unsigned" if it has none; None for the keys that apt or dnf trusts."""

    @property
    def unprotected(self) -> bool:
        """Whether anyone on the way can replace a package."""
        return self.key == UNSIGNED and _is_plain(self.url)


@dataclasses.dataclass(frozen=True)
class Source:
    """The operator's source of programs and images; `{version}` and `{arch}` in texts are replaced by `filled`."""

    binaries: t.Optional[str] = None
    """A folder on this machine or its URL; None for packages."""
    checksums: t.Mapping[str, t.Mapping[str, str]] = dataclasses.field(default_factory=dict)
    """Version -> program -> SHA-256; a missing one is read from `PROGRAM.sha256` next to the program."""
    image_archives: t.Sequence[str] = ()
    """Patterns of image archives on this machine."""
    control_plane_image_archives: t.Sequence[str] = ()
    """Patterns of image archives for control plane nodes only."""
    packages: t.Optional[Repository] = None
    """The repository of the programs' packages; None for binaries."""

    @classmethod
    def of(cls, params: t.Mapping[str, t.Any]) -> Source:
        """The source that a module's parameter describes."""
        repository = params["packages"]
        return cls(**{**params, "packages": Repository(**repository) if repository else None})

    @property
    def remote(self) -> bool:
        return re.match(r"https?://", self.binaries or "") is not None

    @property
    def unprotected(self) -> bool:
        """Whether anyone on the way can replace both a program and the checksum beside it."""
        return _is_plain(self.binaries or "")

    def folder(self, version: str) -> str:
        return filled(self.binaries or "", version).rstrip("/")

    def archive_patterns(self, version: str, control_plane: bool) -> t.List[str]:
        patterns = [*self.image_archives, *(self.control_plane_image_archives if control_plane else ())]
        return [filled(pattern, version) for pattern in patterns]


def _is_plain(url: str) -> bool:
    return url.startswith("http://")


def filled(text: str, version: str, kind: str = "") -> str:
    """*text* with `{version}`, `{minor}`, `{arch}` (this machine's) and `{format}` (*kind*) replaced by their
    values."""
    machine = platform.machine()
    values = {
        "{version}": version,
        "{minor}": version.rpartition(".")[0],
        "{arch}": _ARCHITECTURES.get(machine, machine),
        "{format}": kind,
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def archives_of(source: Source, version: str, control_plane: bool) -> t.List[str]:
    """The image archives of a version, in order.

    :raises TuningError: naming the patterns that match nothing
    """
    found: t.List[str] = []
    missing: t.List[str] = []
    for pattern in source.archive_patterns(version, control_plane):
        paths = sorted(glob.glob(pattern))
        found += paths
        missing += [] if paths else [pattern]
    if missing:
        raise TuningError(problems.archives_missing(version, missing))
    return found


def images_in(archive: str) -> t.List[str]:
    """The names of the images in a docker-archive, which the runtime will use too.

    :raises TuningError: if the file is not a docker-archive
    """
    try:
        with tarfile.open(archive) as tar:
            manifest = tar.extractfile("manifest.json")
            return [name for image in json.load(manifest) for name in image["RepoTags"] or []] if manifest else []
    except (OSError, tarfile.TarError, KeyError, ValueError) as exc:
        raise TuningError(problems.archive_invalid(archive, str(exc))) from exc


def source_problems(source: Source, version: str, control_plane: bool) -> t.List[Problem]:
    """Every problem with taking a version's files from this source; local programs are hashed."""
    found: t.Dict[str, Problem] = {}
    for program in () if source.packages else PROGRAMS:
        try:
            place = f"{source.folder(version)}/{program}"
            if not source.remote and not os.path.isfile(place):
                raise TuningError(problems.program_missing(place))
            expected = checksum_of(source, version, program)
            if source.remote:
                _open(place, "HEAD").close()
            else:
                _compare(place, expected)
        except TuningError as exc:
            found[program] = exc.problems[0]
    listed = _named_once(found)
    try:
        for archive in archives_of(source, version, control_plane):
            images_in(archive)
    except TuningError as exc:
        listed += exc.problems
    return listed


def _named_once(found: t.Mapping[str, Problem]) -> t.List[Problem]:
    """Merges problems that differ only in the program's name, which becomes a shell pattern such as
    `{kubeadm,kubelet}`."""
    alike: t.Dict[Problem, t.List[str]] = {}
    for program, problem in found.items():
        alike.setdefault(_renamed(problem, program, "\0"), []).append(program)
    names = {problem: ",".join(programs) for problem, programs in alike.items()}
    return [_renamed(problem, "\0", f"{{{name}}}" if "," in name else name) for problem, name in names.items()]


def _renamed(problem: Problem, old: str, new: str) -> Problem:
    return dataclasses.replace(
        problem, subject=problem.subject.replace(old, new), finding=problem.finding.replace(old, new)
    )


def checksum_of(source: Source, version: str, program: str) -> str:
    """The SHA-256 that a program must have.

    :raises TuningError: if none is given and there is none next to the program, or none that proves anything
    """
    given = source.checksums.get(version, {}).get(program)
    if given:
        return given
    if source.unprotected:
        raise TuningError(problems.checksum_unprotected(program, version, source.folder(version)))
    place = f"{source.folder(version)}/{program}.sha256"
    text = _read(place) if source.remote else _text(place)
    match = _SHA256.search(text or "")
    if not match:
        raise TuningError(problems.checksum_missing(program, version, place, text is not None))
    return match[0]


def stage(source: Source, version: str, program: str, folder: str) -> str:
    """Put a verified copy of a program in *folder*, unless a correct one is there; returns its path.

    :raises TuningError: if it cannot be fetched or does not match its checksum
    """
    expected = checksum_of(source, version, program)
    path, draft = os.path.join(folder, program), os.path.join(folder, f".{program}.part")
    if os.path.exists(path) and sha256_of(path) == expected:
        return path
    place = f"{source.folder(version)}/{program}"
    try:
        with _open(place, "GET") if source.remote else open(place, "rb") as origin, open(draft, "wb") as copy:
            shutil.copyfileobj(origin, copy, 1 << 20)
            os.fchmod(copy.fileno(), 0o755)
    except (OSError, http.client.HTTPException) as exc:
        raise TuningError(problems.program_not_copied(place, folder, str(exc))) from exc
    _compare(draft, expected, place)
    durable_rename(draft, path)
    return path


def sha256_of(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _compare(path: str, expected: str, origin: t.Optional[str] = None) -> None:
    try:
        found = sha256_of(path)
    except OSError as exc:
        raise TuningError(problems.program_unreadable(path, str(exc.strerror))) from exc
    if found != expected:
        raise TuningError(problems.checksum_differs(origin or path, found, expected))


def _text(path: str) -> t.Optional[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _read(url: str) -> t.Optional[str]:
    try:
        with _open(url, "GET") as answer:
            return str(answer.read().decode("ascii", "replace"))
    except TuningError as exc:
        if exc.facts.get("status") == 404:
            return None
        raise


class _KeepsHttps(urllib.request.HTTPRedirectHandler):
    """Follows no redirection from https to http, which urllib would."""

    def redirect_request(self, req: t.Any, fp: t.Any, code: int, msg: str, headers: t.Any, newurl: str) -> t.Any:
        if _is_plain(newurl) and not _is_plain(req.full_url):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, method: str) -> t.Any:
    opener = urllib.request.build_opener(_KeepsHttps)
    try:
        return opener.open(urllib.request.Request(url, method=method), timeout=_SECONDS)
    except urllib.error.HTTPError as exc:
        raise TuningError(problems.source_answers(url, exc.code, str(exc.reason)), status=exc.code) from exc
    except (urllib.error.URLError, http.client.HTTPException, OSError) as exc:
        reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
        raise TuningError(problems.source_unreachable(url, str(reason))) from exc
