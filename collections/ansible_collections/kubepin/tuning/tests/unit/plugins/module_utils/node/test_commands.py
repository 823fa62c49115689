# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.kubepin.tuning.plugins.module_utils.node.commands import (
    RETRY_SECONDS,
    CannotRun,
    runner,
)


@pytest.fixture
def module() -> AnsibleModule:
    with patch_module_args({}):
        return AnsibleModule(argument_spec={})


def test_a_command_is_run_without_a_shell(module: AnsibleModule) -> None:
    assert runner(module.run_command)(["sh", "-c", "echo $0; echo no >&2; exit 3", "a;b"]) == (3, "a;b\n", "no\n")


def test_a_program_that_is_missing_or_no_program_is_a_failed_command(module: AnsibleModule, tmp_path: Path) -> None:
    broken = tmp_path / "kubelet"
    broken.write_bytes(b"\x7fELF cut off")
    missing, refused = runner(module.run_command)(["/nonexistent/x"]), runner(module.run_command)([str(broken)])
    broken.chmod(0o755)
    assert (missing[0], refused[0], runner(module.run_command)([str(broken)])[0]) == (127, 126, 126)
    assert os.strerror(errno.ENOENT) in missing[2]


class Machine:
    """Short of something until a moment; time passes only in `sleep`."""

    def __init__(self, number: int, until: float) -> None:
        self.now = 0.0
        self.number = number
        self.until = until

    def run_command(self, argv: list[str], handle_exceptions: bool, expand_user_and_vars: bool) -> tuple[int, str, str]:
        assert not handle_exceptions
        assert not expand_user_and_vars
        if self.now < self.until:
            raise OSError(self.number, os.strerror(self.number))
        return 0, "done", ""

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self) -> tuple[int, str, str]:
        return runner(self.run_command, self.sleep, lambda: self.now)(["systemctl", "start", "kubelet"])


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE])
def test_a_command_is_tried_again_while_the_machine_is_short_of_processes(number: int) -> None:
    assert Machine(number, until=RETRY_SECONDS - 1).run() == (0, "done", "")
    short = Machine(number, until=1e9)
    with pytest.raises(CannotRun, match=rf"`systemctl start kubelet` could not be started .*{os.strerror(number)}"):
        short.run()
    assert short.now < RETRY_SECONDS + 1


def test_a_fork_that_really_fails_is_no_end_of_the_process() -> None:
    """In a process of its own that may have no other; root is exempt from the limit."""
    code = (
        "import os, resource, sys\n"
        "from ansible.module_utils.basic import AnsibleModule\n"
        "from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.kubepin.tuning.plugins.module_utils.node import commands\n"
        "commands.RETRY_SECONDS = 0\n"
        "with patch_module_args({}):\n"
        "    module = AnsibleModule(argument_spec={})\n"
        "if os.getuid() == 0:\n"
        "    os.setuid(64123)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
        "try:\n"
        "    commands.runner(module.run_command)(['/bin/true'])\n"
        "except commands.CannotRun as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    if "PermissionError" in done.stderr:
        pytest.skip("another user cannot read the sources here")
    assert os.strerror(errno.EAGAIN) in done.stdout, done.stderr
