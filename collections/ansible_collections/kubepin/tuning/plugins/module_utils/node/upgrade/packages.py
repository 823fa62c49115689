# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs from packages: what a node has, what a repository offers, and how packages are replaced."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shutil
import tempfile
import typing as t
import urllib.parse

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError, output_tail
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade import problems
from ansible_collections.kubepin.tuning.plugins.module_utils.node.upgrade.source import (
    PROGRAMS,
    UNSIGNED,
    Repository,
    Source,
    filled,
)

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
Package = t.Dict[str, t.Any]

APT_FOLDER = "/etc/apt/sources.list.d"
DNF_FOLDER = "/etc/yum.repos.d"
COMMUNITY = "pkgs.k8s.io"
COMMUNITY_OLDEST = 24
"""The community's repositories start at 1.24; those of older minors are gone (kubernetes/release#3485)."""

# Makes systemctl a no-op in maintainer scripts, so that they start, stop and reload nothing (systemd 237,
# docs/ENVIRONMENT.md).
_QUIET = ["env", "SYSTEMD_OFFLINE=1", "NEEDRESTART_SUSPEND=1", "DEBIAN_FRONTEND=noninteractive"]
_WANT = "${db:Status-Want}"
_LOCK_TRIES = 30
_LOCK_SECONDS = 2.0


@contextlib.contextmanager
def empty_directory(path: str) -> t.Iterator[str]:
    """An empty folder of this name, without leftovers of a killed process; it is removed afterwards."""
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def package_of(run: Run, path: str) -> t.Optional[Package]:
    """The installed package that owns a file, according to dpkg or rpm; None if no package does."""
    if shutil.which("dpkg-query"):
        code, output, _errors = run(["dpkg-query", "--search", path])
        match = re.search(rf"^([^\s,]+): {re.escape(path)}$", output, re.MULTILINE)  # not: "diversion by X from: PATH"
        if code == 0 and match:
            form = "${Package}\t${Version}\t${db:Status-Want}"
            code, output, _errors = run(["dpkg-query", "--show", f"--showformat={form}", match[1]])
            if code == 0:
                name, version, want = output.split("\t")
                return {"manager": "dpkg", "name": name, "version": version, "held": want == "hold"}
    if shutil.which("rpm"):
        code, output, _errors = run(["rpm", "-q", "--queryformat=%{NAME}\t%{VERSION}-%{RELEASE}\n", "--file", path])
        if code == 0:
            name, version = output.splitlines()[0].split("\t")
            return {"manager": "rpm", "name": name, "version": version, "held": None}
    return None


def overwriting_warning(packages: t.Mapping[str, t.Optional[Package]]) -> t.Optional[str]:
    """The warning that programs which belong to packages are overwritten; None if none belongs to a package."""
    owned = [package for package in packages.values() if package]
    if not owned:
        return None
    managers = " and ".join(sorted({package["manager"] for package in owned}))
    listed = ", ".join(f"{package['name']} {package['version']}" for package in owned)
    text = (
        f"This node's programs belong to packages ({listed}). The upgrade replaces their files and leaves the packages alone: {managers} "
        "goes on naming the old versions, and installing, upgrading or repairing such a package puts its own program back. "
        "With kubeadm_upgrade_source: packages, packages are upgraded as such."
    )
    free = [package["name"] for package in owned if not package["held"]]
    if not free:
        return f"{text} All of them are held: leave it so until packages of the new version are installed."
    way = "apt-mark hold" if managers == "dpkg" else "dnf versionlock add"
    return f"{text} Hold them (`{way} {' '.join(free)}`) until packages of the new version are installed."


def unpackaged_problems(packages: t.Mapping[str, t.Optional[Package]], present: t.Container[str]) -> t.List[Problem]:
    """What keeps a node's programs from being upgraded as packages.

    Each program on the node must belong to the package of the same name.

    :param present: the programs on the node; kubectl may be missing
    """
    wrong = []
    for program in PROGRAMS:
        package = packages.get(program)
        if package and package["name"] == program:
            continue
        if package:
            wrong.append(f"its {program} belongs to package {package['name']}, not to {program}")
        elif program in present:
            wrong.append(f"its {program} belongs to no package")
        elif program != "kubectl":
            wrong.append(f"it has no {program}")
    return [problems.not_packaged(wrong)] if wrong else []


def newest(version: str, offered: t.Sequence[str]) -> t.Optional[str]:
    """The first of the *offered* package versions, such as 1.28.2-1.1 or 1.22.17-00, that is this Kubernetes
    version."""
    return next((one for one in offered if re.match(rf"(?:\d+:)?{re.escape(version)}(?:-|$)", one)), None)


def moved(text: str, repository: Repository, version: str, kind: str) -> t.Optional[str]:
    """A repository file changed to this version's minor; None if it does not name this repository."""
    url = filled(repository.url, version, kind).rstrip("/")
    parts = filled(repository.url.replace("{minor}", "\0"), version, kind).rstrip("/").split("\0")
    pattern = r"\d+\.\d+".join(re.escape(part) for part in parts) + r"(?![\w.])"
    if not re.search(rf"^[^#\n]*{pattern}", text, re.MULTILINE):
        return None
    return re.sub(pattern, lambda _match: url, text)


class Packages:
    """The packages of kubeadm, kubelet and kubectl on this machine, by its package manager."""

    kind = ""
    """What `{format}` stands for: deb or rpm."""
    _folder = ""
    _patterns: t.Tuple[str, ...] = ()

    def __init__(self, run: Run, repository: Repository) -> None:
        self._run = run
        self._repository = repository

    # What each package manager implements

    def installed(self) -> t.Dict[str, str]:
        """The installed ones of the three packages, with their versions."""
        return {name: version for name in PROGRAMS for version in [self.version_of(name)] if version}

    def version_of(self, name: str) -> t.Optional[str]:
        """The installed version of a package; None if it is not installed."""
        raise NotImplementedError

    def problems(self, version: str) -> t.List[Problem]:
        """What keeps a version's packages from being installed here; read-only."""
        raise NotImplementedError

    def fetch(self, names: t.Sequence[str], version: str, folder: str) -> None:
        """Download the packages of a version into the folder, and the dependencies that need a newer version."""
        raise NotImplementedError

    def describe(self, path: str) -> t.Tuple[str, str]:
        """The name and version of a package file."""
        raise NotImplementedError

    def extract(self, path: str, folder: str) -> None:
        """Unpack a package file into the folder without installing it."""
        raise NotImplementedError

    def keep(self, names: t.Sequence[str], folder: str) -> None:
        """Put package files of the installed packages into the folder."""
        raise NotImplementedError

    def install_command(self, paths: t.Sequence[str]) -> t.List[str]:
        raise NotImplementedError

    def remove_command(self, names: t.Sequence[str]) -> t.List[str]:
        raise NotImplementedError

    def complete(self, name: str, version: str) -> bool:
        """Whether a package is fully installed in that version, and its scripts have run."""
        raise NotImplementedError

    def held(self, names: t.Iterable[str]) -> t.List[str]:
        """The held packages among these."""
        return []

    def hold_again(self, held: t.Sequence[str], names: t.Sequence[str]) -> None:
        """Hold the packages that were held before, or move their locks to the version that is now installed."""
        raise NotImplementedError

    # What all package managers share

    def files_in(self, folder: str) -> t.Dict[str, str]:
        """Package name -> package file, of a folder."""
        paths = sorted(glob.glob(f"{folder}/*.{self.kind}"))
        return {self.describe(path)[0]: path for path in paths}

    def repository_files(self, version: str) -> t.Dict[str, str]:
        """The files that name the repository, changed to this version's minor: the node's own, or else a new one."""
        found = {}
        for pattern in self._patterns:
            for path in sorted(glob.glob(f"{self._folder}/{pattern}")):
                with open(path, encoding="utf-8", errors="replace") as file:
                    text = moved(file.read(), self._repository, version, self.kind)
                if text is not None:
                    found[path] = text
        return found or dict([self._new_file(filled(self._repository.url, version, self.kind))])

    def _new_file(self, url: str) -> t.Tuple[str, str]:
        raise NotImplementedError

    def key_problem(self) -> t.Optional[Problem]:
        """What is wrong with the repository's key."""
        key = self._repository.key
        if key and key.startswith("/") and not os.path.isfile(key):
            return problems.repository_key_missing(key)
        return None

    def _picked(self, version: str, offered: t.Mapping[str, t.Sequence[str]]) -> t.Dict[str, str]:
        """The package versions to install.

        :raises TuningError: naming the packages that the repository lacks
        """
        picked = {name: newest(version, versions) for name, versions in offered.items()}
        missing = [name for name, chosen in picked.items() if chosen is None]
        if not missing:
            return {name: chosen for name, chosen in picked.items() if chosen}
        others = sorted({one for name in missing for one in offered[name]})
        url = filled(self._repository.url, version, self.kind)
        raise TuningError(problems.packages_missing(missing, version, url, others[-5:]))

    def do(self, command: t.List[str], pause: t.Callable[[float], None]) -> None:
        """Run a command that changes packages; waits while another process holds the package manager's lock.

        :raises TuningError: with the package manager's output
        """
        for _attempt in range(_LOCK_TRIES):
            code, output, errors = self._run([*_QUIET, *command])
            if code == 0:
                return
            if "lock" not in errors or "another process" not in errors:
                break
            pause(_LOCK_SECONDS)
        raise TuningError(problems.package_command_failed(f"{' '.join(command[:2])} ...", output_tail(output, errors)))

    def _asked(self, command: t.List[str]) -> str:
        code, output, errors = self._run(command)
        if code != 0:
            raise TuningError(problems.package_command_failed(command[0], output_tail(output, errors)))
        return output


class Apt(Packages):
    """Packages of Debian and its derivatives."""

    kind = "deb"
    _patterns = ("*.list", "*.sources")

    def __init__(self, run: Run, repository: Repository) -> None:
        super().__init__(run, repository)
        self._folder = APT_FOLDER

    def version_of(self, name: str) -> t.Optional[str]:
        code, output, _errors = self._status(name)
        return output.split("\t", 1)[0] if code == 0 and output and not output.endswith(("\tn", "\tc")) else None

    def complete(self, name: str, version: str) -> bool:
        _code, output, _errors = self._status(name)
        return output == f"{version}\ti"

    def held(self, names: t.Iterable[str]) -> t.List[str]:
        return [
            name for name in names if self._run(["dpkg-query", "--show", f"--showformat={_WANT}", name])[1] == "hold"
        ]

    def hold_again(self, held: t.Sequence[str], names: t.Sequence[str]) -> None:
        """dpkg removes the hold from a package that it installs."""
        due = sorted(set(held) - set(self.held(held)))
        if due:
            self._asked(["apt-mark", "hold", *due])

    def _status(self, name: str) -> t.Tuple[int, str, str]:
        form = "${Version}\t${db:Status-Abbrev}"
        code, output, errors = self._run(["dpkg-query", "--show", f"--showformat={form}", name])
        version, _tab, abbreviation = output.partition("\t")
        return code, f"{version}\t{abbreviation.rstrip()[1:]}" if version else "", errors

    @contextlib.contextmanager
    def _view(self, version: str) -> t.Iterator[t.List[str]]:
        """Options that restrict apt to this repository; the node's own lists and caches stay as they are."""
        with tempfile.TemporaryDirectory(prefix="kubepin-apt-") as folder:
            for name in ("parts", "lists/partial", "cache/archives/partial"):
                os.makedirs(f"{folder}/{name}")
            for path, text in self.repository_files(version).items():
                with open(f"{folder}/parts/{os.path.basename(path)}", "w", encoding="utf-8") as file:
                    file.write(text)
            settings = {
                "Dir::Etc::sourcelist": "/dev/null",
                "Dir::Etc::sourceparts": f"{folder}/parts",
                "Dir::State::lists": f"{folder}/lists",
                "Dir::Cache": f"{folder}/cache",
                "APT::Sandbox::User": "root",  # only root can read the folder
                "APT::Update::Error-Mode": "any",
            }
            options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
            self._asked(["apt-get", *options, "-qq", "update"])
            yield options

    def _offered(self, options: t.List[str], names: t.Iterable[str]) -> t.Dict[str, t.List[str]]:
        offered = {}
        for name in names:
            lines = self._asked(["apt-cache", *options, "madison", name]).splitlines()
            offered[name] = [line.split("|")[1].strip() for line in lines if line.count("|") >= 2]
        return offered

    def _install(self, options: t.List[str], picked: t.Mapping[str, str], *more: str) -> t.List[str]:
        fixed = ["-y", "--no-remove", "--reinstall", "--allow-change-held-packages", "--allow-downgrades"]
        return ["apt-get", *options, *fixed, *more, "install", *(f"{name}={one}" for name, one in picked.items())]

    def problems(self, version: str) -> t.List[Problem]:
        try:
            with self._view(version) as options:
                picked = self._picked(version, self._offered(options, self.installed()))
                self._asked(self._install(options, picked, "-qq", "--simulate"))
        except TuningError as exc:
            return [problems.of_packages(version, problem) for problem in exc.problems]
        return []

    def fetch(self, names: t.Sequence[str], version: str, folder: str) -> None:
        with self._view(version) as options:
            picked = self._picked(version, self._offered(options, names))
            listing = self._asked(self._install(options, picked, "-qq", "--print-uris"))
            wanted = re.findall(r"^'(\S+)' (\S+) \d+ (\w+):([0-9a-f]+)$", listing, re.MULTILINE)
            if wanted and all(_is(f"{folder}/{name}", kind, digest) for _uri, name, kind, digest in wanted):
                return
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(f"{folder}/partial", mode=0o700)
            options = [*options, "-o", f"Dir::Cache::archives={folder}"]
            self._asked(self._install(options, picked, "-qq", "--download-only"))
            for uri, name, kind, digest in wanted:
                if uri.startswith("file:"):  # apt reads these in place
                    shutil.copyfile(urllib.parse.unquote(uri[len("file:") :]), f"{folder}/{name}")
                if not _is(f"{folder}/{name}", kind, digest):
                    raise TuningError(problems.package_differs(uri))

    def describe(self, path: str) -> t.Tuple[str, str]:
        form = "${Package}\t${Version}"
        name, version = self._asked(["dpkg-deb", "--show", f"--showformat={form}", path]).split("\t")
        return name, version.strip()

    def extract(self, path: str, folder: str) -> None:
        self._asked(["dpkg-deb", "--extract", path, folder])

    def keep(self, names: t.Sequence[str], folder: str) -> None:
        """Builds the packages from the installed files, because the repository of an old minor may be gone."""
        for name in names:
            self._repack(name, f"{folder}/{name}.deb")

    def _repack(self, name: str, path: str) -> None:
        with empty_directory(f"{path}.root") as root:
            listed = self._asked(["dpkg-query", "--listfiles", name]).splitlines()
            folders = {os.path.dirname(place) for place in listed}
            for place in listed:
                if place.startswith("/") and place != "/." and os.path.lexists(place):
                    _copy(place, f"{root}{place}", place in folders)
            control = f"{root}/DEBIAN"
            os.mkdir(control, 0o755)
            for file in self._asked(["dpkg-query", "--control-list", name]).split():
                origin = self._asked(["dpkg-query", "--control-path", name, file]).strip()
                shutil.copy2(origin, f"{control}/{file}")
            status = self._asked(["dpkg-query", "--status", name])
            # not in --control-list; without it dpkg would not preserve the configuration files
            conffiles = [place for place in conffiles_of(status) if os.path.lexists(f"{root}{place}")]
            for file, content in (
                ("control", control_of(status)),
                ("conffiles", "".join(f"{one}\n" for one in conffiles)),
            ):
                if content:
                    with open(f"{control}/{file}", "w", encoding="utf-8") as text:
                        text.write(content)
            draft = f"{path}.part"
            self._asked(["dpkg-deb", "-Zgzip", "-z1", "--build", root, draft])
            os.replace(draft, path)

    def install_command(self, paths: t.Sequence[str]) -> t.List[str]:
        return ["dpkg", "--force-confold", "--force-confdef", "--install", *paths]

    def remove_command(self, names: t.Sequence[str]) -> t.List[str]:
        return ["dpkg", "--purge", *names]

    def _new_file(self, url: str) -> t.Tuple[str, str]:
        key = self._repository.key
        option = {None: "", UNSIGNED: "[trusted=yes] "}.get(key, f"[signed-by={key}] ")
        return f"{APT_FOLDER}/kubernetes.list", f"deb {option}{url} {self._repository.suite}\n"


class Dnf(Packages):
    """Packages of Red Hat Enterprise Linux and its derivatives."""

    kind = "rpm"
    _patterns = ("*.repo",)

    def __init__(self, run: Run, repository: Repository) -> None:
        super().__init__(run, repository)
        self._folder = DNF_FOLDER

    def version_of(self, name: str) -> t.Optional[str]:
        code, output, _errors = self._run(["rpm", "-q", "--queryformat=%{VERSION}-%{RELEASE}", name])
        return output.strip() if code == 0 else None

    def complete(self, name: str, version: str) -> bool:
        return self.version_of(name) == version

    @contextlib.contextmanager
    def _view(self, version: str) -> t.Iterator[t.List[str]]:
        """dnf restricted to this repository, without package exclusions; the node's own repositories stay as they
        are."""
        with tempfile.TemporaryDirectory(prefix="kubepin-dnf-") as folder:
            for path, text in self.repository_files(version).items():
                with open(f"{folder}/{os.path.basename(path)}", "w", encoding="utf-8") as file:
                    file.write(text)
            yield [*_DNF, f"--setopt=reposdir={folder}", f"--setopt=cachedir={folder}/cache"]

    def _offered(self, dnf: t.List[str], names: t.Iterable[str]) -> t.Dict[str, t.List[str]]:
        form = "%{version}-%{release}\n"
        offered = {}
        for name in names:
            text = self._asked([*dnf, "repoquery", "--showduplicates", f"--queryformat={form}", name])
            offered[name] = list(reversed(text.split()))  # dnf prints the newest last
        return offered

    def problems(self, version: str) -> t.List[Problem]:
        try:
            with self._view(version) as dnf:
                self._picked(version, self._offered(dnf, self.installed()))
        except TuningError as exc:
            return [problems.of_packages(version, problem) for problem in exc.problems]
        return []

    def fetch(self, names: t.Sequence[str], version: str, folder: str) -> None:
        with self._view(version) as dnf:
            picked = self._picked(version, self._offered(dnf, names))
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder, mode=0o700)
            for verb in ("install", "reinstall"):
                due = [
                    f"{name}-{one}"
                    for name, one in picked.items()
                    if (self.version_of(name) == one) == (verb == "reinstall")
                ]
                if due:
                    self._asked([*dnf, verb, "--downloadonly", f"--downloaddir={folder}", *due])

    def describe(self, path: str) -> t.Tuple[str, str]:
        name, version = self._asked(
            ["rpm", "-q", "--queryformat=%{NAME}\t%{VERSION}-%{RELEASE}", "--package", path]
        ).split("\t")
        return name, version.strip()

    def extract(self, path: str, folder: str) -> None:
        self._asked(["rpm", "--root", folder, "--install", "--nodeps", "--noscripts", "--notriggers", path])

    def keep(self, names: t.Sequence[str], folder: str) -> None:
        """rpm cannot rebuild a package, so the node's repositories must still have the installed version."""
        if not names:  # dnf requires at least one
            return
        try:
            self._asked([*_DNF, "reinstall", "--downloadonly", f"--downloaddir={folder}", *names])
        except TuningError as exc:
            raise TuningError(*exc.problems, problems.packages_not_kept()) from exc

    def install_command(self, paths: t.Sequence[str]) -> t.List[str]:
        return ["rpm", "--upgrade", "--oldpackage", "--replacepkgs", *paths]

    def remove_command(self, names: t.Sequence[str]) -> t.List[str]:
        return ["rpm", "--erase", *names]

    def hold_again(self, held: t.Sequence[str], names: t.Sequence[str]) -> None:
        """Move the locks of packages to the version that is now installed.

        The repositories are disabled, because versionlock would read them while the kubelet is stopped. Locks are
        written as given (--raw), because versionlock does not see an installed package whose version its lock excludes.
        """
        versionlock = ["dnf", "-q", "--disablerepo=*", "versionlock"]
        code, output, _errors = self._run([*versionlock, "list"])
        for name in names if code == 0 else ():
            version = self.version_of(name)
            for lock, start in re.findall(rf"^(({re.escape(name)}-(?:\d+:)?)\d\S*)$", output, re.MULTILINE):
                if version and version not in lock:
                    self._asked([*versionlock, "add", "--raw", f"{start}{version}.*"])
                    self._asked([*versionlock, "delete", lock])

    def _new_file(self, url: str) -> t.Tuple[str, str]:
        key = self._repository.key or f"{url.rstrip('/')}/repodata/repomd.xml.key"
        check = "gpgcheck=0\n" if key == UNSIGNED else f"gpgcheck=1\ngpgkey={'file://' if key[0] == '/' else ''}{key}\n"
        return f"{DNF_FOLDER}/kubernetes.repo", f"[kubernetes]\nname=Kubernetes\nbaseurl={url}\nenabled=1\n{check}"


_DNF = ["dnf", "-q", "-y", "--disableexcludes=all", "--disableplugin=versionlock"]


def packages_here(run: Run, repository: Repository) -> Packages:
    """This machine's packages.

    :raises TuningError: if there is neither apt nor dnf
    """
    for program, kind in (("apt-get", Apt), ("dnf", Dnf)):
        if shutil.which(program):
            return t.cast("t.Type[Packages]", kind)(run, repository)
    raise TuningError(problems.no_package_manager())


def package_problems(
    run: Run,
    source: Source,
    versions: t.Sequence[str],
    owners: t.Mapping[str, t.Optional[Package]],
    present: t.Container[str],
) -> t.List[Problem]:
    """Everything that keeps the versions from being installed as packages; nothing for a source of files.

    :param owners: program -> its package, or None
    :param present: the programs on the node
    """
    repository = source.packages
    if repository is None or not versions:
        return []
    found = unpackaged_problems(owners, present)
    if source.checksums:
        found.append(problems.checksums_of_packages())
    if repository.unprotected:
        found.append(problems.repository_unprotected(repository.url))
    try:
        packages = packages_here(run, repository)
    except TuningError as exc:
        return [*found, *exc.problems]
    key = packages.key_problem()
    if found or key:
        return [*found, *([key] if key else [])]
    for version in versions:
        minor = version.split(".")[1]
        if COMMUNITY in repository.url and int(minor) < COMMUNITY_OLDEST:
            found.append(problems.repository_too_young(version, f"1.{COMMUNITY_OLDEST}"))
        else:
            found += packages.problems(version)
    return found


def control_of(status: str) -> str:
    """A package's control file, from its status in dpkg's database."""
    kept, taken = [], False
    for line in status.splitlines():
        if not line.startswith(" "):
            taken = line.startswith(("Status:", "Conffiles:", "Config-Version:"))
        if not taken and line:
            kept.append(line)
    return "\n".join(kept) + "\n"


def conffiles_of(status: str) -> t.List[str]:
    """A package's configuration files, from its status in dpkg's database, without obsolete ones."""
    field = re.search(r"^Conffiles:\n((?: .*\n?)*)", status, re.MULTILINE)
    words = [line.rsplit(" ", 1) for line in (field[1].splitlines() if field else ())]
    return [path.strip() for path, mark in words if re.fullmatch("[0-9a-f]+", mark)]


def _copy(origin: str, path: str, folder: bool) -> None:
    """Copy a folder (without its content), link or file, with owner and mode.

    :param folder: whether the package has a folder there; here it may be a link, as /lib is with a merged /usr
    """
    status = os.stat(origin) if folder else os.lstat(origin)
    if os.path.islink(origin) and not folder:
        os.symlink(os.readlink(origin), path)
    elif os.path.isdir(origin):
        os.makedirs(path, exist_ok=True)
        shutil.copystat(origin, path)
    else:
        shutil.copy2(origin, path)
    os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def _is(path: str, kind: str, digest: str) -> bool:
    try:
        with open(path, "rb") as file:
            found = hashlib.new(kind.lower().replace("md5sum", "md5"))
            for block in iter(lambda: file.read(1 << 20), b""):
                found.update(block)
    except OSError:
        return False
    return found.hexdigest() == digest
