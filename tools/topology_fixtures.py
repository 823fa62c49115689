# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the archives in tests/unit/fixtures/topology of Debian's source packages hwloc and util-linux.

Without FOLDER, apt fetches the packages into a temporary one. Of each dump only what kubepin reads is kept; beside it, untouched, what
the package expects of lstopo or lscpu.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

COLLECTION = Path(__file__).resolve().parents[1] / "collections/ansible_collections/kubepin/tuning"
FIXTURES = COLLECTION / "tests/unit/fixtures/topology"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
SYSTEM = "sys/devices/system"
CPU_FILES = (
    "online",
    "topology/physical_package_id",
    "topology/die_id",
    "topology/core_id",
    "topology/core_cpus*",
    "topology/thread_siblings*",
    "cache/index[0-9]*/level",
    "cache/index[0-9]*/type",
    "cache/index[0-9]*/id",
    "cache/index[0-9]*/shared_cpu_list",
    "cache/index[0-9]*/shared_cpu_map",
    "acpi_cppc/nominal_freq",
)
CLOCK_FILES = ("scaling_cur_freq", "base_frequency", "cpuinfo_max_freq", "scaling_governor")
WANTED = [
    *(
        f"{SYSTEM}/cpu/{name}"
        for name in ("online", "isolated", "smt/control", "cpufreq/boost", "intel_pstate/no_turbo")
    ),
    *(f"{SYSTEM}/cpu/cpu[0-9]*/{name}" for name in CPU_FILES),
    *(f"{SYSTEM}/cpu/cpu[0-9]*/cpufreq/{name}" for name in CLOCK_FILES),
    *(f"{SYSTEM}/cpu/cpufreq/policy[0-9]*/{name}" for name in CLOCK_FILES),
    *(f"{SYSTEM}/node/node[0-9]*/{name}" for name in ("cpulist", "cpumap")),
]
PCI = re.compile(
    r"sys/devices/pci.*/[0-9a-f]+:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]/(class|vendor|device|numa_node|local_cpus|local_cpulist)"
)
LINK = re.compile(rf"sys/bus/pci/devices/[^/]+|{SYSTEM}/cpu/cpu\d+/cpufreq")
KEPT_OF_CPUINFO = ("processor", "model name", "cpu MHz")


def fetch(folder: Path) -> None:
    """Fetches and unpacks both source packages into a folder, without touching the machine's apt."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "source.sources").write_text(SOURCES.read_text().replace("Types: deb\n", "Types: deb-src\n"))
    (folder / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{folder}/source.sources"; Dir::Etc::sourceparts "-"; Dir::State::lists "{folder}/lists";'
        f'Dir::Cache "{folder}/cache"; APT::Sandbox::User "root";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    for command in (["update"], ["source", "--download-only", "hwloc", "util-linux"]):
        subprocess.run(["apt-get", "-q", *command], cwd=folder, env=environment, check=True)
    for archive in folder.glob("*.orig.tar.*"):
        with tarfile.open(archive) as source:
            source.extractall(folder, filter="data")


def without_top(name: str) -> str | None:
    """The path from `sys` or `proc` on."""
    match = re.search(r"(?:^|/)((?:sys/(?:devices|bus)/|proc/cpuinfo).*)", name)
    return match[1] if match else None


def is_wanted(path: str) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in WANTED) or PCI.fullmatch(path) is not None


def short_cpuinfo(text: bytes) -> bytes:
    """Only the fields of /proc/cpuinfo that are read."""
    lines = text.decode("utf-8", "replace").splitlines()
    return "\n".join(line for line in lines if not line.strip() or line.startswith(KEPT_OF_CPUINFO)).encode()


def add(archive: tarfile.TarFile, name: str, content: bytes | None, link: str = "") -> None:
    """A file; a folder if there is no content, or a link."""
    member = tarfile.TarInfo(name)
    member.mode = 0o644
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link
    elif content is None:
        member.type, member.mode = tarfile.DIRTYPE, 0o755
    else:
        member.size = len(content)
    archive.addfile(member, io.BytesIO(content) if content is not None else None)


def add_dump(archive: tarfile.TarFile, name: str, dump: Path) -> None:
    with tarfile.open(dump) as source:
        for member in source:
            path = without_top(member.name)
            if path is None:
                continue
            if member.isdir() and re.fullmatch(rf"{SYSTEM}/(cpu/cpu|node/node)\d+", path):
                add(archive, f"{name}/{path}", None)
            elif member.issym() and LINK.fullmatch(path):
                add(archive, f"{name}/{path}", None, member.linkname)
            elif member.isreg() and (path == "proc/cpuinfo" or is_wanted(path)):
                content = source.extractfile(member).read()  # type: ignore[union-attr]
                add(archive, f"{name}/{path}", short_cpuinfo(content) if path == "proc/cpuinfo" else content)


def pack(target: Path, dumps: list[tuple[str, Path, list[Path]]]) -> None:
    """One archive of dumps with what is expected of each."""
    with tarfile.open(target, "w:xz", preset=9) as archive:
        for name, dump, expected in dumps:
            add_dump(archive, name, dump)
            for file in expected:
                add(archive, f"{name}/expected/{file.name}", file.read_bytes())
    print(f"{target.name}: {len(dumps)} dumps, {target.stat().st_size // 1024} KiB")


def hwloc_dumps(source: Path) -> list[tuple[str, Path, list[Path]]]:
    """Every dump with the outputs that name it in their .source, and the options of those outputs."""
    dumps = []
    for folder in (source / "tests/hwloc/linux", source / "tests/hwloc/x86+linux"):
        for dump in sorted(folder.glob("*.tar.bz2")):
            outputs = []
            for output in sorted(folder.glob("*.output")):
                named = output.with_suffix(".source")
                tarball = (
                    named.read_text().strip() if named.exists() else f"{output.name.removesuffix('.output')}.tar.bz2"
                )
                if tarball == dump.name:
                    outputs += [
                        output,
                        *filter(Path.exists, [output.with_suffix(".options"), output.with_suffix(".env")]),
                    ]
            name = dump.name.removesuffix(".tar.bz2")
            dumps.append((name if folder.name == "linux" else f"x86-{name}", dump, outputs))
    return dumps


def util_linux_dumps(source: Path) -> list[tuple[str, Path, list[Path]]]:
    return [
        (
            dump.name.removesuffix(".tar.gz"),
            dump,
            [source / "tests/expected/lscpu" / f"lscpu-{dump.name.removesuffix('.tar.gz')}"],
        )
        for dump in sorted((source / "tests/ts/lscpu/dumps").glob("*.tar.gz"))
    ]


def main() -> None:
    """Write both archives and hwloc's licence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="with hwloc-*/ and util-linux-*/, unpacked")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not options.folder:
            fetch(folder)
        found = {name: sorted(folder.glob(f"{name}-[0-9]*/")) for name in ("hwloc", "util-linux")}
        missing = [name for name, places in found.items() if not places]
        if missing:
            sys.exit(f"{folder} has no unpacked source of {' and '.join(missing)}: expected {missing[0]}-VERSION/")
        (hwloc,), (util_linux,) = found["hwloc"][-1:], found["util-linux"][-1:]
        pack(FIXTURES / "hwloc.tar.xz", hwloc_dumps(hwloc))
        pack(FIXTURES / "util-linux.tar.xz", util_linux_dumps(util_linux))
        (FIXTURES / "COPYING.hwloc").write_bytes((hwloc / "COPYING").read_bytes())


if __name__ == "__main__":
    main()
