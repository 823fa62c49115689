# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers import system_files
from ansible_collections.kubepin.tuning.plugins.module_utils.node.readers.system_files import (
    DumpError,
    Folder,
    Memory,
    open_files,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ONLINE = "sys/devices/system/cpu/online"
PCI = {
    "sys/bus/pci/devices/0000:01:00.0": "-> ../../../devices/pci0000:00/0000:01:00.0",
    "sys/devices/pci0000:00/0000:01:00.0/class": "0x030000\n",
    "sys/devices/pci0000:00/0000:01:00.0/driver": "-> ../../../bus/pci/drivers/nvidia",
}


def archive(path: Path, files: dict[str, str], mode: str = "w:gz") -> str:
    with tarfile.open(path, mode) as target:  # type: ignore[call-overload]
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            if text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text.removeprefix("-> ")
                target.addfile(member)
            else:
                member.size = len(text)
                target.addfile(member, io.BytesIO(text.encode()))
    return str(path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("top", ["", "./", "gpu-01/", "dumps/gpu-01/fsroot/"])
def test_an_archive_is_read_at_any_depth(tmp_path: Path, mode: str, top: str) -> None:
    files = open_files(
        archive(tmp_path / "dump", {f"{top}{ONLINE}": "0-3\n", f"{top}proc/cpuinfo": "processor : 0"}, mode)
    )
    assert files.text(ONLINE) == "0-3"
    assert files.text("proc/cpuinfo") == "processor : 0"


def test_links_lead_through_folders(tmp_path: Path) -> None:
    for files in (Memory(PCI), open_files(archive(tmp_path / "dump", {**PCI, ONLINE: "0"}))):
        device = "sys/bus/pci/devices/0000:01:00.0"
        assert files.text(f"{device}/class") == "0x030000"
        assert files.names(device) == ["class", "driver"]
        assert files.link_name(f"{device}/driver") == "nvidia"


def test_links_in_a_circle_or_to_nowhere_are_absent() -> None:
    files = Memory({"sys/a": "-> b", "sys/b": "-> a", "sys/c": "-> ../../../../etc/passwd"})
    assert [files.text(f"sys/{name}") for name in "abc"] == [None, None, None]
    assert files.names("sys/a/x") == []


def test_a_copied_file_may_end_with_a_nul(tmp_path: Path) -> None:
    (tmp_path / "online").write_text("0-3\n\0")
    assert Folder(str(tmp_path)).text("online") == "0-3"


@pytest.mark.parametrize("target", ["nowhere", "broken", ONLINE + "/x"])
def test_a_hard_link_to_nothing_is_a_missing_file(tmp_path: Path, target: str) -> None:
    with tarfile.open(tmp_path / "dump", "w:gz") as dump:
        member = tarfile.TarInfo(ONLINE)
        member.size = 3
        dump.addfile(member, io.BytesIO(b"0-3"))
        link = tarfile.TarInfo("broken")
        link.type, link.linkname = tarfile.LNKTYPE, target
        dump.addfile(link)
    files = open_files(str(tmp_path / "dump"))
    assert (files.text(ONLINE), files.text("broken")) == ("0-3", None)


class Zeros(io.RawIOBase):
    """As many NULs as anybody reads."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


@pytest.mark.parametrize(
    ("members", "size"), [pytest.param(1, 2**24, id="one huge file"), pytest.param(20, 2**20, id="many large files")]
)
def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, members: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_files, "MAX_UNPACKED", 2**23)
    with tarfile.open(tmp_path / "bomb", "w:gz", compresslevel=1) as bomb:
        for number in range(members):
            member = tarfile.TarInfo(f"sys/devices/system/cpu/cpu{number}")
            member.size = size
            bomb.addfile(member, Zeros())
    with pytest.raises(DumpError, match="unpacks to more than the files of one machine"):
        open_files(str(tmp_path / "bomb"))


def test_text_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_files, "MAX_HELD", 1000)
    text = "0-3" + " " * 600
    files = {ONLINE: text, "proc/cpuinfo": text, "proc/version": text}
    with pytest.raises(DumpError, match=r"limit 1000\)"):
        open_files(archive(tmp_path / "dump", files))


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"BZh9", b"\xfd7zXZ\x00"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_an_archive_or_refused(tmp_path: Path, content: bytes, magic: bytes) -> None:
    (tmp_path / "dump").write_bytes(magic + content)
    with pytest.raises(DumpError):
        open_files(str(tmp_path / "dump"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("absent", "neither a folder nor a tar archive", id="not there"),
        pytest.param("text", "neither a folder nor a tar archive", id="no archive"),
        pytest.param("cut", "neither a folder nor a tar archive", id="cut short"),
        pytest.param("other", "holds no sys/devices/system/cpu", id="an archive of something else"),
        pytest.param("two", "holds several machines (a/, b/)", id="two machines"),
    ],
)
def test_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "text").write_text("no archive")
    whole = Path(archive(tmp_path / "whole", {ONLINE: "0-3" * 1000})).read_bytes()
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    archive(tmp_path / "other", {"etc/passwd": "x"})
    archive(tmp_path / "two", {f"a/{ONLINE}": "0", f"b/{ONLINE}": "0"})
    with pytest.raises(DumpError) as caught:
        open_files(str(tmp_path / name))
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
