# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time
import typing as t

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import fields_from_flags
from ansible_collections.kubepin.tuning.plugins.module_utils.control.kubelet.values import (
    is_duration,
    is_negative,
    is_quantity,
    value_problems,
)


@pytest.mark.parametrize(
    "text",
    ["0", "+0", "-0", "10s", "1h1m1.5s", ".5s", "5.s", "-1m", "1us", "1\u00b5s", "1\u03bcs", "100ns", "2562047h"],
)
def test_a_duration(text: str) -> None:
    assert is_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "10",
        "s",
        ".s",
        "10 s",
        "10S",
        "1d",
        "1s ",
        "1,5s",
        "2562048h",
        "9" * 400 + "h",
        "\u0661s",
        "1" * 100_000,
    ],
)
def test_no_duration(text: str) -> None:
    start = time.thread_time()
    assert not is_duration(text)
    assert time.thread_time() - start < 5


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "1",
        "500m",
        "1.5",
        "1.",
        ".5",
        "1Gi",
        "2e3",
        "1E",
        "1E3",
        "1e-3",
        "1e+03",
        "-1Ki",
        "+1k",
        "k",
        "+",
        ".",
        "1e0000000000000000000000000000005",
        "9" * 400,
    ],
)
def test_a_quantity(text: str) -> None:
    """Also those with missing digits, which resource.ParseQuantity takes for 0."""
    assert is_quantity(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "500 m",
        "1Gb",
        "1gi",
        "1K",
        "memory=200Mi",
        "1e",
        "1e+",
        "1e5m",
        "--1",
        "1-",
        "0x10",
        "1,5",
        "1e99999999999999999999",
        "1e-3999999999999999999999999999999",
        "\u0661",
        "1\n",
        "1" * 100_000 + "x",
    ],
)
def test_no_quantity(text: str) -> None:
    start = time.thread_time()
    assert not is_quantity(text)
    assert time.thread_time() - start < 5


def test_negative() -> None:
    assert [is_negative(text) for text in ("-1", "-0.001n", "-1e-9", "-0", "-0.0Gi", "1", "+1")] == [True] * 3 + [
        False
    ] * 4


@pytest.mark.parametrize(
    ("effective", "problems"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param(
            {"kubeReserved": {"cpu": "500m", "memory": "1Gi", "ephemeral-storage": "1Gi", "pid": "1k"}}, [], id="good"
        ),
        # public reports, 03
        pytest.param(
            {"kubeReserved": {"storage": "1Gi"}},
            [
                "kubeReserved storage cannot be reserved: expected one of cpu, memory, ephemeral-storage, pid. Remove it."
            ],
            id="storage",
        ),
        pytest.param(
            {"systemReserved": {"memory": "-1Gi"}},
            ['systemReserved memory "-1Gi" is negative, and the kubelet refuses it. Remove it, or reserve 0 or more.'],
            id="negative",
        ),
        pytest.param(
            {"kubeReserved": {"cpu": "500 m", "memory": "1Gb"}},
            [
                'kubeReserved cpu "500 m" is not a quantity: expected a number, with a suffix if needed, such as 500m, 2 or 1Gi.',
                'kubeReserved memory "1Gb" is not a quantity: expected a number, with a suffix if needed, such as 500m, 2 or 1Gi.',
            ],
            id="no quantities",
        ),
        pytest.param(
            fields_from_flags(["kubelet", "--system-reserved=cpu=memory=200Mi"]),
            [
                'systemReserved cpu "memory=200Mi" is not a quantity: expected a number, with a suffix if needed, such as 500m, 2 or 1Gi.'
            ],
            id="flag",
        ),
        pytest.param(
            {"kubeReserved": {"cpu": "x"}, "systemReserved": {"cpu": "-1"}, "reservedSystemCPUs": "0"},
            [],
            id="cpu is replaced by reservedSystemCPUs",
        ),
        pytest.param({"reservedSystemCPUs": "0-3,8"}, [], id="CPU list"),
        # public reports, 22
        pytest.param(
            {"reservedSystemCPUs": "0-15:1/8"},
            [
                'reservedSystemCPUs "0-15:1/8" is not in the kubelet\'s form: expected numbers and ranges separated by commas, '
                'without spaces or steps. Write "0,8".'
            ],
            id="the kernel's form",
        ),
        pytest.param(
            {"reservedSystemCPUs": " 0,1"},
            [
                'reservedSystemCPUs " 0,1" is not in the kubelet\'s form: expected numbers and ranges separated by commas, '
                'without spaces or steps. Write "0-1".'
            ],
            id="white space",
        ),
        pytest.param({"reservedSystemCPUs": "0" * 5000}, [], id="no CPU list is for setting_problems"),
    ],
)
def test_reservations(effective: dict[str, t.Any], problems: list[str]) -> None:
    assert [problem.text for problem in value_problems(effective, "1.36.3")] == problems


@pytest.mark.parametrize(
    ("name", "value", "version", "problem"),
    [
        # public reports, 05
        pytest.param(
            "max-allowable-numa-nodes",
            "true",
            "1.31.4",
            'max-allowable-numa-nodes "true" is invalid: expected a whole number from 8',
            id="true",
        ),
        pytest.param(
            "max-allowable-numa-nodes", "4", "1.35.0", 'max-allowable-numa-nodes "4" is invalid', id="below 8"
        ),
        pytest.param(
            "max-allowable-numa-nodes", "0x10", "1.35.0", 'max-allowable-numa-nodes "0x10" is invalid', id="hexadecimal"
        ),
        pytest.param("max-allowable-numa-nodes", "9" * 5000, "1.35.0", "is invalid", id="beyond 64 bits"),
        pytest.param("max-allowable-numa-nodes", "\u0669", "1.35.0", "is invalid", id="another script"),
        pytest.param(
            "max-allowable-numa-nodes", "16", "1.29.4", "needs kubelet 1.31, and this one is 1.29", id="too new"
        ),
        pytest.param(
            "prefer-closest-numa-nodes",
            "true,max-allowable-numa-nodes=16",
            "1.35.0",
            "expected true or false",
            id="two in one flag",
        ),
        pytest.param("prefer-closest", "true", "1.35.0", "prefer-closest is unknown", id="unknown"),
    ],
)
def test_topology_options(name: str, value: str, version: str, problem: str) -> None:
    options = {"topologyManagerPolicyOptions": {name: value}}
    (found,) = value_problems({**options, "topologyManagerPolicy": "best-effort"}, version)
    assert problem in found.text
    assert value_problems({**options, "topologyManagerPolicy": "none"}, version) == []  # not read


@pytest.mark.parametrize(
    ("name", "value"),
    [("max-allowable-numa-nodes", "40"), ("max-allowable-numa-nodes", "+0008"), ("prefer-closest-numa-nodes", "T")],
)
def test_good_topology_options(name: str, value: str) -> None:
    effective = {"topologyManagerPolicyOptions": {name: value}, "topologyManagerPolicy": "restricted"}
    assert value_problems(effective, "1.31.4") == []
