# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import random
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import (
    FlagError,
    expand_command,
    extra_args_of,
    fields_from_flags,
    flag_value,
    mask_secrets,
    parse_environment,
    rewrite_extra_args,
    split_arguments,
)
from ansible_collections.kubepin.tuning.tests.unit.samples.inputs import damaged
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        pytest.param([], {}, id="none"),
        pytest.param(["--cpu-manager-policy=static"], {"cpuManagerPolicy": "static"}, id="with ="),
        pytest.param(["--cpu-manager-policy", "static"], {"cpuManagerPolicy": "static"}, id="two arguments"),
        pytest.param(["--cpu_manager_policy=static"], {"cpuManagerPolicy": "static"}, id="underscores"),
        pytest.param(["--reserved-cpus=0", "--reserved-cpus=1"], {"reservedSystemCPUs": "1"}, id="the last counts"),
        pytest.param(["--v", "2", "--reserved-cpus", "0"], {"reservedSystemCPUs": "0"}, id="an unknown flag's value"),
        pytest.param(["--unknown", "--reserved-cpus=0"], {"reservedSystemCPUs": "0"}, id="an unknown flag without one"),
        pytest.param(["--fail-swap-on", "--reserved-cpus=0"], {"failSwapOn": True, "reservedSystemCPUs": "0"}, id="boolean"),
        pytest.param(["--cpu-cfs-quota=0", "--fail-swap-on=F"], {"cpuCFSQuota": False, "failSwapOn": False}, id="Go's booleans"),
        pytest.param(["--healthz-port=0"], {"healthzPort": 0}, id="number"),
        pytest.param(
            ["--kube-reserved=cpu=200m,memory=1Gi", "--kube-reserved=cpu=1"],
            {"kubeReserved": {"cpu": "1", "memory": "1Gi"}}, id="a map adds up",
        ),
        pytest.param(["--kube-reserved="], {"kubeReserved": {}}, id="an empty map"),
        pytest.param(
            ["--enforce-node-allocatable=pods,kube-reserved", "--enforce-node-allocatable=x"],
            {"enforceNodeAllocatable": ["pods", "kube-reserved", "x"]}, id="a list adds up",
        ),
        pytest.param(["--feature-gates=A=true,B=false"], {"featureGates": {"A": True, "B": False}}, id="gates"),
        pytest.param(
            ["--eviction-hard=memory.available<100Mi,nodefs.available<10%"],
            {"evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%"}}, id="thresholds",
        ),
        pytest.param(
            ["--cpu-manager-policy-options=full-pcpus-only=true", "--cpu-manager-policy-options=align-by-socket=true"],
            {"cpuManagerPolicyOptions": {"full-pcpus-only": "true", "align-by-socket": "true"}}, id="one option each",
        ),
        pytest.param(
            ["--cpu-manager-policy-options=a=true,b=true"], {"cpuManagerPolicyOptions": {"a": "true,b=true"}},
            id="options are not split at commas",
        ),
        pytest.param(
            ["--reserved-memory=0:memory=1Gi,hugepages-1Gi=2Gi;1:memory=2Gi", "--reserved-memory", "2:memory=1Gi"],
            {
                "reservedMemory": [
                    {"numaNode": 0, "limits": {"memory": "1Gi", "hugepages-1Gi": "2Gi"}},
                    {"numaNode": 1, "limits": {"memory": "2Gi"}},
                    {"numaNode": 2, "limits": {"memory": "1Gi"}},
                ]
            },
            id="reserved memory",
        ),
        pytest.param(["--", "--reserved-cpus=0"], {}, id="nothing after --"),
    ],
)  # fmt: skip
def test_fields_from_flags(flags: list[str], fields: dict[str, t.Any]) -> None:
    assert fields_from_flags(["/usr/bin/kubelet", *flags]) == fields


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        pytest.param("--fail-swap-on=maybe", "--fail-swap-on is 'maybe'; expected true or false", id="boolean"),
        pytest.param("--healthz-port=http", "--healthz-port is 'http'; expected a whole number", id="number"),
        pytest.param("--kube-reserved=cpu", "expected key=value pairs", id="map"),
        pytest.param("--eviction-hard=memory.available=1Gi", "expected key<value pairs", id="threshold"),
        pytest.param("--cpu-manager-policy-options=", "", id="no option is no error"),
        pytest.param("--cpu-manager-policy-options=x", "expected key=value", id="option"),
        pytest.param("--feature-gates=A", "expected key=value pairs", id="gate"),
        pytest.param("--feature-gates=A=on", "expected true or false", id="gate's value"),
        pytest.param("--reserved-memory=memory=1Gi", "expected NODE:TYPE=QUANTITY", id="memory without a node"),
        pytest.param("--reserved-memory=0:memory", "expected NODE:TYPE=QUANTITY", id="memory without a quantity"),
        pytest.param("--reserved-cpus", "--reserved-cpus has no value", id="no value"),
    ],
)
def test_flag_refused(flag: str, message: str) -> None:
    if not message:
        assert fields_from_flags(["kubelet", flag]) == {"cpuManagerPolicyOptions": {}}
        return
    with pytest.raises(FlagError, match=message):
        fields_from_flags(["kubelet", flag])


def test_flag_value() -> None:
    line = ["kubelet", "--config", "/a", "--config=/b", "--root-dir", "/r"]
    assert flag_value(line, "config") == "/b"
    assert flag_value(line, "root-dir") == "/r"
    assert flag_value(line, "config-dir") is None
    assert flag_value([], "config") is None


# Every row was also run through systemd 252, as EnvironmentFile= of a service.
@pytest.mark.parametrize(
    ("text", "variables"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("# c\n; c\n\n  A=1\n", {"A": "1"}, id="comments and leading space"),
        pytest.param("A=1\nA=2", {"A": "2"}, id="the last counts"),
        pytest.param("A=--x --y  \n", {"A": "--x --y"}, id="unquoted with spaces"),
        pytest.param('A="--x --y"  # no comment\n', {"A": "--x --y# no comment"}, id="# after a quote is text"),
        pytest.param("A='a \"b\" \\n'\n", {"A": 'a "b" \\n'}, id="single quotes"),
        pytest.param('A="a \\"b\\" \\$x \\n"\n', {"A": 'a "b" $x \\n'}, id="double quotes"),
        pytest.param("A='a' 'b'\"c\"\n", {"A": "abc"}, id="quoted parts join"),
        pytest.param('A=a"b c"\n', {"A": 'a"b c"'}, id="a quote within is text"),
        pytest.param("A=a \\\n  b\nB=2\n", {"A": "a   b", "B": "2"}, id="continuation"),
        pytest.param('A="a\nb"\nB=2\n', {"A": "a\nb", "B": "2"}, id="newline in quotes"),
        pytest.param("A=a\\ b\\\\\n", {"A": "a b\\"}, id="escapes"),
        pytest.param("export A=1\n1=2\nA B=3\n=4\nnothing\n", {}, id="not assignments"),
        pytest.param("A=\nB=", {"A": "", "B": ""}, id="empty values"),
        pytest.param('A="open\nB=2\n', {"A": "open\nB=2\n"}, id="open quote"),
        pytest.param("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}, id="DOS line ends"),
    ],
)
def test_parse_environment(text: str, variables: dict[str, str]) -> None:
    assert parse_environment(text) == variables


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("  a  b ", ["a", "b"], id="white space"),
        pytest.param("'a b' c\"d e\"f", ["a b", "cd ef"], id="quotes, also within"),
        pytest.param("''", [""], id="an empty word"),
        pytest.param(r"a\ b \"c", ["a b", '"c'], id="backslashes"),
        pytest.param(r"""'a\'b' "c\d" """, ["a'b", "cd"], id="backslashes in quotes"),
    ],
)
def test_split_arguments(text: str, words: list[str]) -> None:
    assert split_arguments(text) == words


@pytest.mark.parametrize(
    ("word", "arguments"),
    [
        pytest.param("$A", ["--x", "y z"], id="a word of its own is split"),
        pytest.param("${A}", ["--x 'y z'"], id="braces keep it whole"),
        pytest.param("p${B}q", ["pbq"], id="braces within"),
        pytest.param("p$B", ["p$B"], id="no braces within: text"),
        pytest.param("$UNSET", [], id="unset is nothing"),
        pytest.param("${UNSET}", [""], id="unset in braces is empty"),
        pytest.param("$$B", ["$B"], id="a dollar sign"),
    ],
)
def test_expand_command(word: str, arguments: list[str]) -> None:
    assert expand_command(["/k", word], {"A": "--x 'y z'", "B": "b"}) == ["/k", *arguments]


@pytest.mark.parametrize(
    ("text", "remove", "add", "expected"),
    [
        pytest.param(None, set(), ["--a=1"], "KUBELET_EXTRA_ARGS=--a=1\n", id="no file"),
        pytest.param(None, set(), [], "", id="no file, nothing to say"),
        pytest.param("", set(), ["--a=1", "--b=2"], 'KUBELET_EXTRA_ARGS="--a=1 --b=2"\n', id="empty file, two arguments"),
        pytest.param("A=1", set(), ["--a"], "A=1\nKUBELET_EXTRA_ARGS=--a\n", id="no line end before"),
        pytest.param("# c\nA=1\\\n", set(), ["--a"], "# c\nA=1\\\n\nKUBELET_EXTRA_ARGS=--a\n", id="backslash before"),
        pytest.param("KUBELET_EXTRA_ARGS=\n", set(), ["--a"], "KUBELET_EXTRA_ARGS=--a\n", id="empty variable, as the deb has it"),
        pytest.param(
            "# keep\nKUBELET_EXTRA_ARGS=--node-ip=10.0.0.1 --v=2\nB='x'\n", set(), ["--reserved-cpus=0,8"],
            '# keep\nKUBELET_EXTRA_ARGS="--node-ip=10.0.0.1 --v=2 --reserved-cpus=0,8"\nB=\'x\'\n', id="the others stay",
        ),
        pytest.param(
            'KUBELET_EXTRA_ARGS="--reserved-cpus 0 --v=2"\n', {"reserved-cpus"}, ["--reserved-cpus=1"],
            'KUBELET_EXTRA_ARGS="--v=2 --reserved-cpus=1"\n', id="two arguments go together",
        ),
        pytest.param(
            'KUBELET_EXTRA_ARGS="--fail-swap-on --v=2"\n', {"fail-swap-on"}, [], "KUBELET_EXTRA_ARGS=--v=2\n",
            id="a boolean goes alone",
        ),
        pytest.param("KUBELET_EXTRA_ARGS=--reserved_cpus=0\n", {"reserved-cpus"}, [], "KUBELET_EXTRA_ARGS=\n", id="the last one goes"),
        pytest.param(
            "KUBELET_EXTRA_ARGS='--l=\"a b\"'\n", set(), ["--x"], 'KUBELET_EXTRA_ARGS="--l=\\"a b\\" --x"\n', id="quotes within"
        ),
        pytest.param(
            "KUBELET_EXTRA_ARGS=--a\nX=1\nKUBELET_EXTRA_ARGS=--b\n", {"a", "b"}, ["--c"],
            "KUBELET_EXTRA_ARGS=--a\nX=1\nKUBELET_EXTRA_ARGS=--c\n", id="the last assignment counts",
        ),
        pytest.param(
            "KUBELET_EXTRA_ARGS=--a \\\n  --b\nX=1\n", {"a"}, [], "KUBELET_EXTRA_ARGS=--b\nX=1\n", id="continued line"
        ),
        pytest.param(
            "KUBELET_EXTRA_ARGS=  '--v=2'   --x\n", {"y"}, [], "KUBELET_EXTRA_ARGS=  '--v=2'   --x\n", id="nothing to do: untouched"
        ),
        pytest.param(
            "KUBELET_EXTRA_ARGS=--v=2\n", set(), ["--eviction-hard=memory.available<1Gi", "--l=a b"],
            'KUBELET_EXTRA_ARGS="--v=2 --eviction-hard=memory.available<1Gi \\"--l=a b\\""\n', id="special characters",
        ),
    ],
)  # fmt: skip
def test_rewrite_extra_args(text: str | None, remove: set[str], add: list[str], expected: str) -> None:
    result = rewrite_extra_args(text, remove, add)
    assert result == expected
    assert rewrite_extra_args(result, remove - {arg[2:].partition("=")[0] for arg in add}, []) == result


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('A="open\n', id="the file ends in a quote"),
        pytest.param("KUBELET_EXTRA_ARGS=--a='open\n", id="the value ends in a quote"),
    ],
)
def test_rewrite_refused(text: str) -> None:
    with pytest.raises(FlagError, match="close"):
        rewrite_extra_args(text, set(), ["--b"])


def test_rewrite_keeps_everything_else() -> None:
    """Seeded random files: the wanted arguments are there, all other variables and arguments as before."""
    chance = random.Random(11)
    pieces = [
        "a",
        "b ",
        "=",
        "#",
        ";",
        '"',
        "'",
        "\\",
        "\n",
        "\\\n",
        " ",
        "$",
        "--x=1 ",
        "--y 2 ",
        "A=",
        "KUBELET_EXTRA_ARGS=",
    ]
    add = ["--reserved-cpus=0,8", "--l=a 'b' \\ $c"]
    done = 0
    for _index in range(3000):
        text = "".join(chance.choice(pieces) for _index in range(chance.randint(1, 25)))
        try:
            result = rewrite_extra_args(text, {"x"}, add)
        except FlagError:
            continue
        done += 1
        before, after = parse_environment(text), parse_environment(result)
        old, new = extra_args_of(text), extra_args_of(result)
        assert new[-2:] == add, text
        assert [arg for arg in new[:-2] if arg in old] == new[:-2]
        assert {**before, "KUBELET_EXTRA_ARGS": ""} == {**after, "KUBELET_EXTRA_ARGS": ""}
    assert done > 1500


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HTTPS_PROXY=http://user:pass@proxy:3128\n", "HTTPS_PROXY=http://********@proxy:3128\n"),
        ('http_proxy="http://me:p@ss/w#rd@proxy:3128"\nA=1\n', 'http_proxy="http://********@proxy:3128"\nA=1\n'),
        ("# HTTP_PROXY=http://user:pass@proxy\n", "# HTTP_PROXY=http://********@proxy\n"),
        ("URL=https://token@host/x\n", "URL=https://********@host/x\n"),
        ("NO_PROXY=localhost,10.0.0.0/8\n", "NO_PROXY=localhost,10.0.0.0/8\n"),
        ("HTTP_PROXY=http://proxy:3128/\n", "HTTP_PROXY=http://proxy:3128/\n"),
        ("REGISTRY_PASSWORD=hunter2\nA=1\n", "REGISTRY_PASSWORD=********\nA=1\n"),
        ("AWS_SECRET_ACCESS_KEY='two\nlines'\nA=1\n", "AWS_SECRET_ACCESS_KEY=********\nA=1\n"),
        ("api_token=abc\\\ndef\nA=1\n", "api_token=********\nA=1\n"),
        ("DB_PASS=last", "DB_PASS=********"),
        (" #  OLD_SECRET=x y\n", " #  OLD_SECRET=********\n"),
        (
            'KUBELET_EXTRA_ARGS="--authorization-mode=Webhook --tls-private-key-file=/k"\n',
            'KUBELET_EXTRA_ARGS="--authorization-mode=Webhook --tls-private-key-file=/k"\n',
        ),
        ("KUBELET_AUTHZ_ARGS=--anonymous-auth=false\n", "KUBELET_AUTHZ_ARGS=--anonymous-auth=false\n"),
        ('{"policyName":"none","checksum":1}', '{"policyName":"none","checksum":1}'),
        ("", ""),
    ],
)
def test_a_text_is_shown_without_its_secrets(text: str, shown: str) -> None:
    assert mask_secrets(text) == shown


@pytest.mark.parametrize(
    "text", ['DB_PASS=hunter2\nKUBELET_EXTRA_ARGS="--v=2\n', 'DB_PASS=hunter2\nKUBELET_EXTRA_ARGS="\'"\n']
)
def test_an_error_about_a_file_does_not_tell_its_secrets(text: str) -> None:
    with pytest.raises(FlagError) as caught:
        rewrite_extra_args(text, [], ["--v=4"])
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caught.value.details["text"]


ENVIRONMENT = """# a comment \\
KUBELET_EXTRA_ARGS="--cpu-manager-policy=static \\
 --node-ip='10.0.0.2'" ; OTHER=$X
HTTPS_PROXY=http://me:secret@proxy:3128
"""


@given(damaged(ENVIRONMENT))
def test_what_is_written_into_any_environment_file_is_read_from_it(text: str) -> None:
    with contextlib.suppress(FlagError):
        after = rewrite_extra_args(text, ["cpu-manager-policy"], ["--reserved-cpus=0", '--v=a b"$'])
        assert extra_args_of(after)[-2:] == ["--reserved-cpus=0", '--v=a b"$']
        assert flag_value(extra_args_of(after), "cpu-manager-policy") is None
        assert rewrite_extra_args(after, [], []) == after
    mask_secrets(text)


@given(damaged(ENVIRONMENT), st.lists(st.text(max_size=20)))
def test_any_command_line_has_fields_or_is_refused(text: str, more: list[str]) -> None:
    words = expand_command([*split_arguments(text), "$KUBELET_EXTRA_ARGS", *more], parse_environment(text))
    with contextlib.suppress(FlagError):
        fields_from_flags(["kubelet", *words])
