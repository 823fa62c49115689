# SPDX-License-Identifier: GPL-3.0-or-later
"""Small files of /sys and /proc: of this machine, or of a copy in a folder or a tar archive."""

from __future__ import annotations

import os
import posixpath
import re
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.cpuset import MAX_CPUS, CpusetError, parse_cpuset
from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import InvalidText

if t.TYPE_CHECKING:
    import tarfile

MAX_LINKS = 40
"""How many symbolic links a path may lead through, as in the kernel (include/linux/namei.h, MAXSYMLINKS)."""
MAX_BYTES = 4 * 1024 * 1024
"""How much of each file in an archive is read; /proc/cpuinfo of 256 CPUs takes 0.4 MiB."""
MAX_UNPACKED = 2 * 1024**3
"""How many bytes an archive may unpack to. A tar of all of /sys holds some 100,000 files, most of them padded to 4 KiB."""
MAX_HELD = 256 * 1024**2
"""How many characters of its files, without padding, are held."""
_MARK = "sys/devices/system/cpu"


class DumpError(InvalidText):
    """A copy of another machine's files cannot be read."""

    code = "machine_files_unreadable"


class SystemFiles:
    """Reads small files below a root; files that cannot be read count as missing."""

    def raw(self, name: str) -> t.Optional[str]:
        """The text of a file."""
        raise NotImplementedError

    def names(self, folder: str) -> t.List[str]:
        """The entries of a folder, sorted."""
        raise NotImplementedError

    def link_name(self, name: str) -> t.Optional[str]:
        """The last part of a symbolic link's target."""
        raise NotImplementedError

    def text(self, name: str) -> t.Optional[str]:
        """The text of a file, without surrounding white space and without the NULs that some tools leave in a copy."""
        text = self.raw(name)
        return None if text is None else text.strip("\0 \t\r\n")

    def number(self, name: str) -> t.Optional[int]:
        """A count or an identifier; the kernel writes -1 for unknown."""
        text = self.text(name)
        return int(text) if text and re.fullmatch(r"\d{1,20}", text, re.ASCII) else None

    def cpus(self, list_file: str, mask_file: t.Optional[str] = None) -> t.FrozenSet[int]:
        """A set of CPUs, from the file with the list, or else from the file with the mask."""
        text = self.text(list_file)
        if text is not None:
            try:
                return parse_cpuset(text)
            except CpusetError:
                return frozenset()
        return parse_mask(self.text(mask_file) or "") if mask_file else frozenset()

    def numbered(self, folder: str, prefix: str) -> t.List[int]:
        """N of each entry `prefix`N of `folder`, in order."""
        matches = (re.fullmatch(rf"{prefix}(\d{{1,9}})", name, re.ASCII) for name in self.names(folder))
        return sorted(int(match[1]) for match in matches if match)


class Folder(SystemFiles):
    """A folder with `sys` and `proc`; `/` is this machine."""

    def __init__(self, root: str) -> None:
        self._root = root

    def _path(self, name: str) -> str:
        return os.path.join(self._root, name)

    def raw(self, name: str) -> t.Optional[str]:
        try:
            with open(self._path(name), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return None

    def names(self, folder: str) -> t.List[str]:
        try:
            return sorted(os.listdir(self._path(folder)))
        except OSError:
            return []

    def link_name(self, name: str) -> t.Optional[str]:
        try:
            return os.path.basename(os.readlink(self._path(name)))
        except OSError:
            return None


class Memory(SystemFiles):
    """Files held in memory: path -> text, symbolic links ("-> target") among them, relative to the root."""

    def __init__(self, files: t.Mapping[str, str], folders: t.Iterable[str] = ()) -> None:
        self._files = dict(files)
        self._entries: t.Dict[str, t.Set[str]] = {}
        for path in [*files, *folders]:
            parent, name = posixpath.split(path)
            while name and name not in self._entries.setdefault(parent, set()):
                self._entries[parent].add(name)
                parent, name = posixpath.split(parent)
        for folder in folders:
            self._entries.setdefault(folder, set())
        self._real: t.Dict[str, str] = {"": ""}

    def _resolve(self, path: str, links: int = 0) -> str:
        """The path with symbolic links resolved; dangling and circular links stay as they are."""
        known = self._real.get(path)
        if known is not None:
            return known
        parent, name = posixpath.split(path)
        real = posixpath.join(self._resolve(parent, links), name)
        target = self._files.get(real, "")
        if target.startswith("-> ") and links < MAX_LINKS:
            joined = posixpath.normpath(posixpath.join("/", posixpath.dirname(real), target[3:]))
            real = self._resolve(joined.lstrip("/"), links + 1)
        self._real[path] = real
        return real

    def raw(self, name: str) -> t.Optional[str]:
        text = self._files.get(self._resolve(name))
        return None if text is None or text.startswith("-> ") else text

    def names(self, folder: str) -> t.List[str]:
        return sorted(self._entries.get(self._resolve(folder), ()))

    def link_name(self, name: str) -> t.Optional[str]:
        parent, base = posixpath.split(name)
        text = self._files.get(posixpath.join(self._resolve(parent), base), "")
        return posixpath.basename(text) if text.startswith("-> ") else None


def open_files(root: str) -> SystemFiles:
    """The files of a folder with `sys` and `proc`, or of a tar archive that holds such a folder at any depth.

    :raises DumpError: if `root` is neither, or the archive holds no or several such folders
    """
    if os.path.isdir(root):
        return Folder(root)
    import lzma  # only when needed: most runs read a folder
    import tarfile
    import zlib

    try:
        with tarfile.open(root) as archive:
            files, folders = _members(root, archive)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as exc:
        raise DumpError(
            f"{root} is neither a folder nor a tar archive that can be read: {exc}. Expected a folder that holds `sys`, or a "
            "(compressed) tar archive of one.",
            path=root,
        ) from exc
    tops = sorted({path[: path.index(_MARK)] for path in [*files, *folders] if f"/{_MARK}/" in f"/{path}/"})
    tops = [top for top in tops if top == "" or top.endswith("/")]
    if len(tops) != 1:
        held = f"several machines ({', '.join(tops)})" if tops else f"no {_MARK}"
        raise DumpError(f"{root} holds {held}: expected the files of one machine.", path=root)
    return Memory(
        {path[len(tops[0]) :]: text for path, text in files.items() if path.startswith(tops[0])},
        [path[len(tops[0]) :] for path in folders if path.startswith(tops[0])],
    )


_TAR_BLOCK = 512
"""The size of a member's header."""


def _members(root: str, archive: tarfile.TarFile) -> t.Tuple[t.Dict[str, str], t.List[str]]:
    """The files and links, and the folders, of an archive. A hard link whose target cannot be read is a missing file.

    :raises DumpError: for an archive that is too large, before more of it is unpacked
    """
    files: t.Dict[str, str] = {}
    folders: t.List[str] = []
    unpacked = held = 0
    for member in archive:
        unpacked += _TAR_BLOCK + member.size
        if unpacked > MAX_UNPACKED or held > MAX_HELD:
            raise DumpError(
                f"{root} unpacks to more than the files of one machine: {unpacked} bytes up to {member.name[:80]} (limit "
                f"{MAX_UNPACKED}), {held} characters of text (limit {MAX_HELD}). Expected /proc/cpuinfo and the CPUs, nodes and "
                "PCI devices of /sys.",
                path=root,
            )
        name = posixpath.normpath(member.name).lstrip("/")
        if member.isdir():
            folders.append(name)
        elif member.issym():
            files[name] = f"-> {member.linkname}"
        elif member.isreg() or member.islnk():
            try:
                stream = archive.extractfile(member)
            except (KeyError, RecursionError):  # a hard link to nothing, or in a circle
                continue
            if stream is not None:
                files[name] = stream.read(MAX_BYTES).decode("utf-8", "replace").strip("\0")
                held += len(files[name])
    return files, folders


def parse_mask(text: str) -> t.FrozenSet[int]:
    """The CPUs of a mask in comma-separated groups of hexadecimal digits; none if it is invalid or too long."""
    digits = text.replace(",", "")
    if not re.fullmatch(rf"[0-9a-fA-F]{{1,{MAX_CPUS // 4}}}", digits):
        return frozenset()
    bits = int(digits, 16)
    return frozenset(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)
