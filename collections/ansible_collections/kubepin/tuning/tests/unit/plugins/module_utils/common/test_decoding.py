# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t
from dataclasses import asdict, dataclass

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.decoding import decode


@dataclass(frozen=True)
class Part:
    name: str
    size: float = 0.0


@dataclass(frozen=True)
class Whole:
    parts: t.Tuple[Part, ...]
    cpus: t.FrozenSet[int]
    paths: t.Mapping[str, str]
    on: bool
    anything: t.Any
    count: t.Optional[int] = None


WHOLE = Whole((Part("a", 1), Part("b")), frozenset({3, 1}), {"x": "/x"}, True, [None], 3)


def as_json(**changes: object) -> t.Dict[str, t.Any]:
    data: t.Dict[str, t.Any] = json.loads(json.dumps(asdict(WHOLE), default=sorted))
    return {**data, **changes}


def test_what_was_written_is_read_again() -> None:
    assert decode(Whole, as_json()) == WHOLE


def test_what_has_a_default_may_be_missing() -> None:
    data = as_json(parts=[{"name": "a"}])
    del data["count"]
    assert (decode(Whole, data).count, decode(Whole, data).parts) == (None, (Part("a"),))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], r"it is \[\]"),
        (as_json(more=1), "more is unknown"),
        ({"parts": []}, "cpus is missing"),
        (as_json(parts="ab"), 'parts is "ab"'),
        (as_json(parts=[1]), "one of parts is 1"),
        (as_json(parts=[{"name": None}]), "one of parts.name is null"),
        (as_json(parts=[{"name": "a", "size": "1"}]), 'size is "1"'),
        (as_json(cpus=[True]), "one of cpus is true"),
        (as_json(cpus={"1": 1}), "cpus is "),
        (as_json(paths={"x": None}), "paths.x is null"),
        (as_json(paths=[]), r"paths is \[\]"),
        (as_json(on=1), "on is 1"),
        (as_json(count=1.5), "count is 1.5"),
        (as_json(count=False), "count is false"),
    ],
)
def test_what_the_class_does_not_say_is_refused(data: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        decode(Whole, data)
