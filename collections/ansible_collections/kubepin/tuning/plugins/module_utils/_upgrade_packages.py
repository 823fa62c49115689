# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection: may change without notice.
# Which of a node's programs a package manager answers for. Reads, and changes nothing.
from __future__ import annotations

import re
import shutil
import typing as t

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]
Package = t.Dict[str, t.Any]


def package_of(run: Run, path: str) -> t.Optional[Package]:
    """The installed package that a file belongs to, as dpkg or rpm say; None for a file of no package."""
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
    """What somebody must know whose packaged programs are replaced by files; None where no program is a package's."""
    owned = [package for package in packages.values() if package]
    if not owned:
        return None
    managers = " and ".join(sorted({package["manager"] for package in owned}))
    listed = ", ".join(f"{package['name']} {package['version']}" for package in owned)
    text = (
        f"This node's programs belong to packages ({listed}). The upgrade replaces their files and leaves the packages alone: {managers} "
        "goes on naming the old versions, and installing, upgrading or repairing such a package puts its own program back."
    )
    free = [package["name"] for package in owned if not package["held"]]
    if not free:
        return f"{text} All of them are held: leave it so until packages of the new version are installed."
    way = "apt-mark hold" if managers == "dpkg" else "dnf versionlock add"
    return f"{text} Hold them (`{way} {' '.join(free)}`) until packages of the new version are installed."
