# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to a node's files, the kubelet's service and its health, and the lock that allows one run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import stat
import time
import typing as t
import urllib.error
import urllib.request

from ansible_collections.kubepin.tuning.plugins.module_utils.common.errors import TuningError

Run = t.Callable[[t.List[str]], t.Tuple[int, str, str]]

HOME = "/var/lib/kubepin"
"""Where kubepin keeps on a node what it needs to undo its changes."""

LOCK = os.path.join(HOME, "lock")


def draft_path(path: str, name: str) -> str:
    """The path of a draft: next to its file, hidden, and with an extension that no reader of the folder picks up."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{name}.kubepin")


class Files:
    """Files of the machine that this runs on."""

    def read(self, path: str) -> t.Optional[str]:
        """The file's text, None if there is no such file."""
        try:
            with open(path, encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def names(self, directory: str) -> t.List[str]:
        """The entries of a directory, none if it does not exist."""
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            return []

    def replace(self, path: str, text: str, mode: int = 0o644) -> None:
        """Replace the file atomically, flushed to disk; an existing file's owner and mode are kept."""
        draft = self.draft(path, text, str(os.getpid()), mode)
        try:
            self.place(draft, path)
        except BaseException:
            self.remove(draft)
            raise

    def draft(self, path: str, text: str, name: str, mode: int = 0o644) -> str:
        """Write a draft next to the file for `place`, flushed to disk, with an existing file's owner and mode.

        An existing draft of the same *name* is replaced. If writing fails, the draft is removed.

        :returns: the draft's path, from `draft_path`
        """
        draft = draft_path(path, name)
        self._make_directory(os.path.dirname(path))
        try:
            old: t.Optional[os.stat_result] = os.stat(path)
        except FileNotFoundError:
            old = None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) if old else mode)
                if old:
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(draft)
            raise
        return draft

    def place(self, draft: str, path: str) -> None:
        """Replace the file atomically by its draft, flushed to disk."""
        os.replace(draft, path)
        self._sync_directory(os.path.dirname(path))

    def remove(self, path: str) -> None:
        """Remove the file if it exists."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        self._sync_directory(os.path.dirname(path))

    def _make_directory(self, directory: str) -> None:
        """Make the directory, flushed to disk: a file that refers to it must not exist without it after a crash."""
        if os.path.isdir(directory):
            return
        parent = os.path.dirname(directory)
        self._make_directory(parent)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        self._sync_directory(parent)

    @staticmethod
    def _sync_directory(directory: str) -> None:
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Node(Files):
    """Files and the kubelet's systemd service of the machine that this runs on.

    :param run: runs a command without a shell and returns its exit code, output and error output
    """

    def __init__(self, run: Run, service: str = "kubelet") -> None:
        self._run = run
        self._service = service

    @contextlib.contextmanager
    def guarded(self) -> t.Iterator[None]:
        """Have systemd start the kubelet if this process is killed meanwhile; the caller must hold `NodeLock`.

        A transient unit waits for that lock, which the kernel releases however this process ends. Creating it needs no
        daemon-reload.

        :raises TuningError: if systemd refuses the unit; nothing was stopped then
        """
        guard = f"kubepin-guard-{os.getpid()}"
        start = ["flock", LOCK, "systemctl", "start", self._service]
        code, _out, err = self._run(["systemd-run", "--quiet", "--unit", guard, *start])
        if code != 0:
            raise TuningError(
                f"systemd does not start a guard for the kubelet (`systemd-run --unit {guard}`): {err.strip()} Nothing was changed."
            )
        try:
            yield
        finally:
            self._run(["systemctl", "stop", guard])

    def stop_kubelet(self) -> float:
        """Stop the service and check that it is down.

        :returns: when it was asked to stop, by the monotonic clock in seconds
        :raises TuningError: if it still runs
        """
        pid = self.service_state()["MainPID"]
        asked_at = self.monotonic()
        self._systemctl("stop")
        if os.path.exists(f"/proc/{pid}") and pid != "0":
            state = self.service_state()
            raise TuningError(
                f"service {self._service} is {state['ActiveState']} (PID {pid} is still there) after `systemctl stop`."
            )
        return asked_at

    def start_kubelet(self) -> None:
        """Start the service, even if systemd gave up on it; does not check whether it stays up."""
        try:
            self._systemctl("start")
        except TuningError:
            self._systemctl("reset-failed")
            self._systemctl("start")

    def read_changed_units(self) -> None:
        """Run `systemctl daemon-reload` if systemd reports that the service's files changed since it loaded them."""
        _code, out, _err = self._run(["systemctl", "show", self._service, "-p", "NeedDaemonReload"])
        if "NeedDaemonReload=yes" in out.splitlines():
            code, _out, err = self._run(["systemctl", "daemon-reload"])
            if code != 0:
                raise TuningError(f"`systemctl daemon-reload` failed: {err.strip()}")

    def _systemctl(self, verb: str) -> None:
        code, _out, err = self._run(["systemctl", verb, self._service])
        if code != 0:
            raise TuningError(f"`systemctl {verb} {self._service}` failed: {err.strip()}")

    def service_state(self) -> t.Dict[str, str]:
        """ActiveState, SubState, MainPID and NRestarts of the service, as systemd words them."""
        code, out, err = self._run(
            [
                "systemctl",
                "show",
                self._service,
                "-p",
                "ActiveState",
                "-p",
                "SubState",
                "-p",
                "MainPID",
                "-p",
                "NRestarts",
            ]
        )
        if code != 0:
            raise TuningError(f"`systemctl show {self._service}` failed: {err.strip()}")
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def healthy(self, url: str) -> bool:
        """Whether the kubelet's health endpoint answers; ignores the environment's proxies."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, http.client.HTTPException, OSError):
            return False

    def log_since(self, seconds: float) -> t.List[str]:
        """The service's messages since that time (of `time()`), oldest first."""
        _code, out, _err = self._run(
            ["journalctl", "--unit", self._service, "--no-pager", "--output", "cat", "--since", f"@{seconds:.6f}"]
        )
        return out.splitlines()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class NodeLock:
    """Lets one run at a time use the node; in check mode it does not even make the lock's folder."""

    def __init__(self, check_mode: bool) -> None:
        self._check_mode = check_mode
        self._file: t.Optional[t.IO[str]] = None

    def __enter__(self) -> None:
        if self._check_mode:
            return
        try:
            os.makedirs(HOME, mode=0o700, exist_ok=True)
            self._file = open(LOCK, "w", encoding="utf-8")
        except OSError as exc:
            raise TuningError(f"{LOCK} cannot be written: {exc.strerror}. Nothing was changed.") from exc
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise TuningError(
                f"another run is changing this node right now ({self._file.name} is locked): wait for it to end."
            ) from exc

    def __exit__(self, *_exc: object) -> None:
        if self._file:
            self._file.close()
