# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a machine, replaced atomically and durably, with everything that belongs to them.

A symbolic link stays: the file that it leads to is replaced.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import filecmp
import os
import platform
import shutil
import stat
import sys
import typing as t

from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch import problems

_GET_FLAGS = 0x40086601 if platform.machine().startswith("ppc") else 0x80086601
"""FS_IOC_GETFLAGS, _IOR('f', 1, long), on 64-bit machines (include/uapi/linux/fs.h; powerpc has direction bits of its
own, arch/powerpc/include/uapi/asm/ioctl.h)."""
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
"""FS_IMMUTABLE_FL and FS_APPEND_FL (include/uapi/linux/fs.h): such a file, and an entry of such a directory, can be
neither replaced nor removed."""

_OF_CONTENT = ("security.ima", "security.evm")
"""Extended attributes that are computed from a file's content, so that a file with another content must not have
them."""


BACKUP = "before"
"""The name of the drafts that hold what a transaction replaces, so that undoing it needs renames only, and no room."""

NEW = "new"
"""The name of the drafts of files that are replaced at once. Like all drafts they belong to whoever holds the node's lock,
so the next run replaces or removes one that a power cut left."""


def draft_path(path: str, name: str) -> str:
    """The path of a draft: next to its file, hidden, and with an extension that no reader of the folder picks up."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{name}.kubepin")


def is_draft(name: str) -> bool:
    """Whether a file with this name, without its folder, is a draft."""
    return name.startswith(".") and name.endswith(".kubepin")


class Files:
    """Files of the machine that this runs on. Bytes that are not UTF-8 come back as they were."""

    def read(self, path: str) -> t.Optional[str]:
        """The file's text, None if there is no such file."""
        try:
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def names(self, directory: str) -> t.List[str]:
        """The entries of a directory, none if it does not exist."""
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            return []

    def names_below(self, directory: str) -> t.List[str]:
        """The paths of all files below a directory, however deep, none if it does not exist; links are not followed."""
        return sorted(os.path.join(folder, name) for folder, _folders, names in os.walk(directory) for name in names)

    def content(self, path: str) -> bytes:
        """:raises OSError: if it cannot be read"""
        with open(path, "rb") as file:
            return file.read()

    def remove_empty_folders(self, directory: str) -> None:
        """Remove the directory and those below it, except those that hold files."""
        for folder, _folders, _names in os.walk(directory, topdown=False):
            with contextlib.suppress(OSError):  # not empty
                os.rmdir(folder)
                sync_directory(os.path.dirname(folder))

    def remove_folder(self, path: str) -> bool:
        """Remove the folder if it is empty; returns whether it is gone. The kubelet must not have been started with it as
        --config-dir, nor be about to: it does not start without it (cmd/kubelet/app/server.go mergeKubeletConfigurations)."""
        with contextlib.suppress(OSError):  # not empty, or gone
            os.rmdir(path)
            sync_directory(os.path.dirname(path))
        return not os.path.isdir(path)

    def missing_folders(self, path: str) -> t.List[str]:
        """The folders that have to be made before the file can be written, the deepest first."""
        missing, folder = [], os.path.dirname(os.path.realpath(path))
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        return missing

    def obstacles(self, path: str, removes: bool = False) -> t.List[Problem]:
        """Everything that prevents replacing the file without a loss, or with *removes* its removal; changes nothing."""
        return list(_obstacles(os.path.realpath(path), removes))

    def replace(self, path: str, text: str, mode: int = 0o644) -> None:
        """Replace the file atomically, flushed to disk; see `draft` for what is kept of an existing one."""
        with self.replacing(path, mode=mode) as file:
            file.write(text.encode("utf-8", "surrogateescape"))

    def copy(self, origin: str, path: str, like: t.Optional[str] = None) -> None:
        """Replace the file atomically by a copy, flushed to disk.

        :param like: the file whose owner, mode and extended attributes the copy gets, by default *origin*
        """
        with self.replacing(path, like=like or origin, name="copy") as file:
            _copy_content(origin, file)

    @contextlib.contextmanager
    def replacing(
        self, path: str, mode: int = 0o644, like: t.Optional[str] = None, name: str = NEW
    ) -> t.Iterator[t.BinaryIO]:
        """A file to write to, which replaces *path* atomically at the end, flushed to disk; after an error nothing is
        left of it.

        :param name: the draft's name
        """
        path = os.path.realpath(path)
        draft = draft_path(path, name)
        try:
            with _new_file(draft, like or path, mode) as file:
                yield file
            self.place(draft, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise

    def draft(self, path: str, text: str, name: str, mode: int = 0o644) -> None:
        """Write a draft next to the file for `place_draft`, flushed to disk.

        It has the owner, mode and extended attributes (SELinux label, ACL) of an existing file. An existing draft of the
        same *name* is replaced. If writing fails, the draft is removed.

        :raises OSError: if it cannot be written, or an attribute cannot be copied
        """
        path = os.path.realpath(path)
        with _new_file(draft_path(path, name), path, mode) as file:
            file.write(text.encode("utf-8", "surrogateescape"))

    def draft_copy(self, origin: str, path: str, name: str, like: t.Optional[str] = None) -> None:
        """Write a draft like `draft`, with the content of another file.

        :param like: the file whose owner, mode and extended attributes the draft gets, by default *origin*
        """
        with _new_file(draft_path(os.path.realpath(path), name), like or origin, 0o644) as file:
            _copy_content(origin, file)

    def link_draft(self, path: str, name: str) -> bool:
        """Give the file a draft's name, too, which it keeps when it is replaced. That takes no room.

        :returns: False if the file system has no hard links
        """
        path = os.path.realpath(path)
        draft = draft_path(path, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        try:
            os.link(path, draft)
        except OSError:
            return False
        sync_directory(os.path.dirname(path))
        return True

    def has_draft(self, path: str, name: str, like: str) -> bool:
        """Whether there is a draft that is the same as *like*."""
        return self.same(draft_path(os.path.realpath(path), name), like)

    def same(self, one: str, other: str) -> bool:
        """Whether both files exist with the same content, owner and mode."""
        try:
            first, second = os.stat(one), os.stat(other)
        except FileNotFoundError:
            return False
        return (first.st_uid, first.st_gid, first.st_mode) == (
            second.st_uid,
            second.st_gid,
            second.st_mode,
        ) and filecmp.cmp(one, other, shallow=False)

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def read_draft(self, path: str, name: str) -> t.Optional[str]:
        """The draft's text, None if there is none."""
        return self.read(draft_path(os.path.realpath(path), name))

    def place_draft(self, path: str, name: str) -> None:
        """Replace the file atomically by its draft, flushed to disk."""
        path = os.path.realpath(path)
        self.place(draft_path(path, name), path)

    def remove_draft(self, path: str, name: str) -> None:
        """Remove the draft if it exists."""
        self.remove(draft_path(os.path.realpath(path), name))

    def place(self, draft: str, path: str) -> None:
        """Rename the file and flush its new name to disk."""
        os.replace(draft, path)
        sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        """Remove the file if it exists."""
        path = os.path.realpath(path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        sync_directory(os.path.dirname(path))


def _copy_content(origin: str, file: t.BinaryIO) -> None:
    with open(origin, "rb") as source:
        shutil.copyfileobj(source, file, 1 << 20)


def make_directory(path: str, mode: int = 0o755) -> None:
    """Make the directory and its parents, each flushed to disk: a file that names a directory must not outlive it."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_directory(parent, mode)
    os.makedirs(path, mode=mode, exist_ok=True)
    sync_directory(parent)


def sync_directory(directory: str) -> None:
    """Flush a directory's entries to disk: without that, a crash can undo renames and removals in it."""
    _sync(directory)


def sync_file(path: str) -> None:
    """Flush a file that another program wrote to disk, with its name."""
    _sync(path)
    sync_directory(os.path.dirname(path))


def durable_rename(draft: str, path: str) -> None:
    """Replace the file by a draft that may not be on disk yet, flushed to disk."""
    _sync(draft)
    os.replace(draft, path)
    sync_directory(os.path.dirname(path))


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _new_file(path: str, like: str, mode: int) -> t.Iterator[t.BinaryIO]:
    """A new file at *path*, with the owner, mode and extended attributes of *like* if that exists, flushed to disk.

    Attributes come after the content, because a write takes away a program's capabilities.
    """
    make_directory(os.path.dirname(path))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            try:
                model: t.Optional[os.stat_result] = os.stat(like)
            except FileNotFoundError:
                model = None
            if model:
                os.fchown(file.fileno(), model.st_uid, model.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(model.st_mode) if model else mode)
            if model:
                _copy_attributes(like, file.fileno())
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def _copy_attributes(like: str, handle: int) -> None:
    wanted, given = attributes_of(like), attributes_of(handle)
    if sys.platform == "linux":
        for name in given.keys() - wanted.keys():
            if not name.startswith("security."):  # such as an ACL that the directory's default ACL gave it
                os.removexattr(handle, name)
        for name, value in wanted.items():
            if given.get(name) != value:
                try:
                    os.setxattr(handle, name, value)
                except OSError as exc:
                    raise OSError(exc.errno, f"its attribute {name} cannot be copied ({exc.strerror})") from exc


def attributes_of(file: t.Union[str, int]) -> t.Dict[str, bytes]:
    """The extended attributes that a replacement of the file must have; none if the file system does not support them.

    :raises OSError: if they cannot be read
    """
    if sys.platform != "linux":
        return {}  # a control node
    try:
        return {name: os.getxattr(file, name) for name in os.listxattr(file) if name not in _OF_CONTENT}
    except OSError as exc:
        if exc.errno == errno.ENOTSUP:
            return {}
        raise


def _obstacles(path: str, removes: bool) -> t.Iterator[Problem]:
    try:
        status: t.Optional[os.stat_result] = os.lstat(path)
    except FileNotFoundError:
        status = None
    except OSError as exc:
        yield problems.file_unreachable(path, str(exc.strerror))
        return
    directory = os.path.dirname(path)
    while not os.path.lexists(directory):
        directory = os.path.dirname(directory)
    if not os.path.isdir(directory):
        yield problems.file_unreachable(path, f"{directory} is not a directory")
        return
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        yield problems.file_read_only(path)
    if _is_fixed(directory):
        yield problems.file_immutable(directory)
    if status is None:
        return
    if not stat.S_ISREG(status.st_mode):
        yield problems.file_not_regular(path)
        return
    if path in _mount_points():
        yield problems.file_is_mount_point(path)
    if _is_fixed(path):
        yield problems.file_immutable(path)
    if removes:
        return
    names = status.st_nlink - _is_same_file(path, draft_path(path, BACKUP))  # which a killed process left
    if names > 1:
        yield problems.file_has_other_names(path, names)
    try:
        attributes_of(path)
    except OSError as exc:
        yield problems.file_attributes_unreadable(path, str(exc.strerror))


def _is_same_file(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def _is_fixed(path: str) -> bool:
    """Whether a file or directory is immutable or append-only; not on file systems without these flags."""
    flags = array.array("i", [0, 0])  # the kernel writes an int, but some file systems in user space write a long
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.ioctl(handle, _GET_FLAGS, flags)
    except OSError:
        return False
    finally:
        os.close(handle)
    return bool(flags[0] & (_IMMUTABLE | _APPEND_ONLY))


def _mount_points() -> t.Container[str]:
    """Where file systems and single files are mounted (proc(5), /proc/PID/mountinfo)."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return {line.split(" ")[4].replace("\\040", " ") for line in file}
    except FileNotFoundError:
        return ()
