# SPDX-License-Identifier: GPL-3.0-or-later
"""Real files: what a replacement keeps, what is refused before, and what is on disk when it returns."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.problem import Problem
from ansible_collections.kubepin.tuning.plugins.module_utils.common.switch.changes import FileChange
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.files import (
    BACKUP,
    NEW,
    Files,
    draft_path,
    make_directory,
)
from ansible_collections.kubepin.tuning.plugins.module_utils.node.transaction.preflight import preflight

SET_FLAGS = 0x40086602
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
FILES = Files()


def codes(path: Path, removes: bool = False) -> list[str]:
    return [problem.code for problem in FILES.obstacles(str(path), removes)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "etc" / "kubelet"
    file.parent.mkdir()
    file.write_text("old")
    file.chmod(0o640)
    return file


def switch(file: Path, text: str = "new") -> None:
    """As the transaction does it."""
    FILES.draft(str(file), text, "switch-1")
    FILES.place_draft(str(file), "switch-1")


def test_a_draft_takes_the_place_of_its_file_with_its_mode(file: Path) -> None:
    FILES.draft(str(file), "interrupted", "switch-1")
    FILES.draft(str(file), "new", "switch-1")
    assert file.read_text() == "old"
    draft = draft_path(str(file), "switch-1")
    assert sorted(os.listdir(file.parent)) == [os.path.basename(draft), file.name]
    assert not draft.endswith(".conf"), "the kubelet would read the draft"
    FILES.place_draft(str(file), "switch-1")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o640)
    assert os.listdir(file.parent) == [file.name]


def test_nothing_is_left_of_a_draft_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        FILES.draft(str(tmp_path / "deep" / "kubelet"), "\ud800", "switch-1")
    assert os.listdir(tmp_path / "deep") == []


@pytest.mark.parametrize("relative", [False, True])
def test_a_symbolic_link_stays_and_its_target_is_replaced(file: Path, tmp_path: Path, relative: bool) -> None:
    managed = tmp_path / "managed" / "kubelet"
    managed.parent.mkdir()
    file.rename(managed)
    file.symlink_to("../managed/kubelet" if relative else managed)
    assert codes(file) == []
    switch(file)
    assert (file.is_symlink(), managed.read_text(), managed.stat().st_mode & 0o777) == (True, "new", 0o640)
    switch(file, "old")
    assert (file.is_symlink(), managed.read_text()) == (True, "old")
    FILES.replace(str(file), "newer")
    assert (file.is_symlink(), managed.read_text()) == (True, "newer")
    FILES.draft(str(file), "unused", "switch-1")
    FILES.remove_draft(str(file), "switch-1")
    assert os.listdir(managed.parent) == ["kubelet"]


def test_a_file_created_through_a_dangling_link_is_removed_again_without_the_link(file: Path, tmp_path: Path) -> None:
    file.unlink()
    file.symlink_to(tmp_path / "managed")
    assert codes(file) == []
    switch(file)
    assert (tmp_path / "managed").read_text() == "new"
    FILES.remove(str(file))
    assert (FILES.read(str(file)), file.is_symlink()) == (None, True)


def test_links_that_lead_nowhere_are_refused(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)
    assert codes(file) == ["file_not_regular"]
    file.unlink()
    file.symlink_to("/dev/null")
    assert codes(file) == ["file_not_regular"]
    file.unlink()
    file.mkdir()
    assert codes(file) == ["file_not_regular"]
    assert codes(file.parent / "kubelet" / "a" / "b") == []
    (file / "a").write_text("")
    assert codes(file / "a" / "b") == ["file_unreachable"]


def test_hard_links_are_refused_for_a_replacement_and_not_for_a_removal(file: Path) -> None:
    os.link(file, file.parent / "other")
    assert (codes(file), codes(file, removes=True)) == (["file_has_other_names"], [])
    assert "2 names" in FILES.obstacles(str(file))[0].text


def test_a_backup_that_is_the_file_itself_counts_as_no_other_name(file: Path) -> None:
    assert FILES.link_draft(str(file), BACKUP)
    assert codes(file) == []
    os.link(file, file.parent / "other")
    assert "2 names" in FILES.obstacles(str(file))[0].text


@pytest.fixture
def fix() -> Iterator[object]:
    """Sets inode flags, and takes them off again."""
    fixed: list[Path] = []

    def set_flags(path: Path, flags: int) -> None:
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SET_FLAGS, array.array("i", [flags, 0]))
        except OSError as error:
            pytest.skip(f"no inode flags here: {error.strerror}")
        finally:
            os.close(handle)
        fixed.append(path)

    yield set_flags
    for path in list(fixed):
        set_flags(path, 0)


@pytest.mark.parametrize("flags", [IMMUTABLE, APPEND_ONLY])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_immutable_is_found_before(file: Path, fix: object, flags: int, what: str) -> None:
    fixed = file if what == "file" else file.parent
    fix(fixed, flags)  # type: ignore[operator]
    for removes in (False, True):
        [problem] = FILES.obstacles(str(file), removes)
        assert (problem.code, problem.subject) == ("file_immutable", str(fixed))
    with pytest.raises(OSError, match="Operation not permitted"):
        switch(file)


def test_a_read_only_file_system_is_found_before() -> None:
    with open("/proc/self/mountinfo") as mounts:
        fields = [line.split() for line in mounts]
    folders = [words[4] for words in fields if "ro" in words[5].split(",") and os.path.isdir(words[4])]
    if not folders:
        pytest.skip("nothing is mounted read-only here")
    assert "file_read_only" in codes(Path(folders[-1], "kubelet"))


def test_a_file_that_is_mounted_from_elsewhere_is_found_before() -> None:
    with open("/proc/self/mountinfo") as mounts:
        files = [path for path in (line.split()[4] for line in mounts) if os.path.isfile(path)]
    if not files:
        pytest.skip("no file is mounted here")
    assert "file_is_mount_point" in codes(Path(files[0]), removes=True)


def with_attribute(file: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(file, name, value)
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error.strerror}")


ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, number)
    for tag, rights, number in (
        (1, 6, 2**32 - 1), (2, 4, 1000), (4, 4, 2**32 - 1), (0x10, 4, 2**32 - 1), (0x20, 0, 2**32 - 1),
    )
)  # fmt: skip
"""u::rw-,u:1000:r--,g::r--,m::r--,o::--- as the kernel stores it (include/uapi/linux/posix_acl_xattr.h)."""


@pytest.mark.parametrize(
    ("name", "value"), [("user.origin", b"site"), ("system.posix_acl_access", ACL), ("security.capability", b"")]
)
def test_extended_attributes_go_along(file: Path, name: str, value: bytes) -> None:
    if name == "security.capability":  # cap_net_bind_service+ep
        value = struct.pack("<IIIII", 0x02000001, 0x400, 0, 0, 0)
    with_attribute(file, name, value)
    switch(file)
    assert os.getxattr(file, name) == value
    copy = file.parent / "copy"
    FILES.copy(str(file), str(copy))
    assert (copy.read_text(), os.getxattr(copy, name)) == ("new", value)
    FILES.copy(str(copy), str(file))
    assert os.getxattr(file, name) == value


def test_a_default_acl_of_the_folder_gives_a_replacement_no_other_rights(file: Path) -> None:
    with_attribute(file.parent, "system.posix_acl_default", ACL)
    before = os.listxattr(file)
    switch(file)
    assert (os.listxattr(file), file.stat().st_mode & 0o777) == (before, 0o640)


def test_an_attribute_that_cannot_be_copied_is_named_and_nothing_is_left(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_attribute(file, "user.origin", b"site")

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(OSError, match=r"user\.origin cannot be copied \(Operation not permitted\)"):
        FILES.draft(str(file), "new", "switch-1")
    assert (os.listdir(file.parent), file.read_text()) == ([file.name], "old")


def test_attributes_that_cannot_be_read_are_found_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "listxattr", refuse)
    assert codes(file) == ["file_attributes_unreadable"]


def test_a_file_system_without_attributes_is_no_problem(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(os, "listxattr", unknown)
    assert codes(file) == []
    switch(file)
    assert file.read_text() == "new"


class Disk:
    """What is on disk: each path that was flushed, in order, with the renames and removals between."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        fsync, replace = os.fsync, os.replace

        def flush(handle: int) -> None:
            self.events.append(("flush", os.readlink(f"/proc/self/fd/{handle}")))
            fsync(handle)

        def rename(old: str, new: str) -> None:
            self.events.append(("rename", new))
            replace(old, new)

        monkeypatch.setattr(os, "fsync", flush)
        monkeypatch.setattr(os, "replace", rename)


def test_new_folders_are_on_disk_in_their_parents_before_a_file_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    path = tmp_path / "kubepin" / "switches" / "1.json"
    FILES.replace(str(path), "{}")
    draft = draft_path(str(path), NEW)
    assert disk.events == [
        ("flush", str(tmp_path)),
        ("flush", str(tmp_path / "kubepin")),
        ("flush", draft),
        ("rename", str(path)),
        ("flush", str(path.parent)),
    ]


def test_a_copy_is_on_disk_with_its_name_when_it_returns(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    path = file.parent / "kubelet.old"
    FILES.copy(str(file), str(path))
    draft = draft_path(str(path), "copy")
    assert disk.events == [("flush", draft), ("rename", str(path)), ("flush", str(file.parent))]
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("old", 0o640)


def test_bytes_that_are_not_utf_8_come_back_as_they_were(file: Path) -> None:
    file.write_bytes(b"# caf\xe9\r\n")
    text = FILES.read(str(file))
    assert text is not None
    switch(file, text + "new\n")
    assert file.read_bytes() == b"# caf\xe9\r\nnew\n"


def test_a_removal_is_on_disk_when_it_returns(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    FILES.remove(str(file))
    assert disk.events == [("flush", str(file.parent))]
    FILES.remove(str(file))


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(file: Path) -> None:
    with pytest.raises(OSError, match="File exists"):
        make_directory(str(file / "below"))


def test_a_plan_is_compared_with_real_files(file: Path) -> None:
    other = file.parent / "other"
    other.mkdir()
    missing = file.parent / "missing"
    changes = [
        FileChange(str(file), "old", "new", ""),
        FileChange(str(other), "text", "new", ""),
        FileChange(str(missing), "was there", None, ""),
    ]
    found = preflight(FILES, changes)
    assert [(problem.code, problem.subject) for problem in found] == [
        ("file_unreadable", str(other)),
        ("file_not_regular", str(other)),
        ("file_changed_since_plan", str(missing)),
    ]
    assert all(isinstance(problem, Problem) for problem in found)


def test_only_empty_folders_are_removed(tmp_path: Path) -> None:
    (tmp_path / "home" / "switches" / "deep").mkdir(parents=True)
    (tmp_path / "home" / "kept").mkdir()
    (tmp_path / "home" / "kept" / "file").write_text("")
    FILES.remove_empty_folders(str(tmp_path / "home"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "home", "kept"]
    (tmp_path / "home" / "kept" / "file").unlink()
    FILES.remove_empty_folders(str(tmp_path / "home"))
    assert list(tmp_path.iterdir()) == []
    FILES.remove_empty_folders(str(tmp_path / "home"))


def test_the_folders_that_a_file_needs_are_named_and_removed_if_they_are_empty(tmp_path: Path) -> None:
    file = str(tmp_path / "a" / "b" / "file")
    made = FILES.missing_folders(file)
    assert made == [str(tmp_path / "a" / "b"), str(tmp_path / "a")]
    FILES.replace(file, "text")
    assert FILES.missing_folders(file) == []
    assert not FILES.remove_folder(made[0])
    assert FILES.read(file) == "text"
    FILES.remove(file)
    assert all(FILES.remove_folder(folder) for folder in (*made, *made))
    assert list(tmp_path.iterdir()) == []


def test_all_files_below_a_folder_are_found_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "home" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for path in ("elsewhere/x", "home/b", "home/deep/a"):
        (tmp_path / path).write_bytes(b"\xff")
    (tmp_path / "home" / "link").symlink_to(tmp_path / "elsewhere")
    below = FILES.names_below(str(tmp_path / "home"))
    assert [os.path.relpath(path, tmp_path / "home") for path in below] == ["b", "deep/a"]
    assert FILES.content(below[0]) == b"\xff"
    assert FILES.names_below(str(tmp_path / "gone")) == []
