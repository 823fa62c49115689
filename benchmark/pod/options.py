# SPDX-License-Identifier: GPL-3.0-or-later
"""The command lines: from text to checked values. All problems are reported before anything runs."""

import argparse
import os
import re
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Optional, Sequence, Tuple

from . import slots
from .cells import BATCH, MATRICES, PRECISIONS, RESNETS, Cell, parse_cell
from .environment import FOUND_KEYS
from .models import CLASSES, FAMILIES

DEVICES = ("auto", "cuda", "cpu")
AUTO_THREADS = ("found", "affinity")
ALL, DEFAULT_FAMILY = "all", "resnet"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadArguments(Exception):
    """`problems` holds every problem of a command line, each with its remedy."""

    def __init__(self, problems: List[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RoundOptions(NamedTuple):
    """`threads`: None for torch's choice, 0 for the usable CPUs, else the number of threads."""

    run_id: str
    arm: str
    rounds: Tuple[int, ...]
    threads: Tuple[Optional[int], ...]
    cells: Optional[List[Cell]]
    matrix: Optional[str]
    device: str
    block_seconds: float
    warm_up: bool
    workers: Optional[int]
    image_size: Optional[int]
    auto_threads: str
    env: Dict[str, str]
    output: Optional[str]
    place: slots.Place


class OriginalOptions(NamedTuple):
    """The original's options by meaning; `models` and `precisions` are None for all of `families` and all of them."""

    warm_up: int
    tests: int
    batch: int
    classes: int
    gpus: int
    folder: str
    families: Tuple[str, ...]
    models: Optional[List[str]]
    precisions: Optional[List[str]]
    device: str


class _Parser(argparse.ArgumentParser):
    """Options only. One without a value gets an empty one, so that it is reported together with all other problems."""

    def error(self, message: str) -> NoReturn:
        raise BadArguments([f"{message}. See --help"])

    def option(self, *names: str, metavar: str, help: str, default: Optional[str] = None) -> None:
        self.add_argument(*names, metavar=metavar, help=help, default=default, nargs="?", const="")

    def flag(self, name: str, *, help: str) -> None:
        self.add_argument(name, help=help, action="store_true")

    def list_option(self, name: str, *, metavar: str, help: str) -> None:
        self.add_argument(name, metavar=metavar, help=help, nargs="*", action="append")


class _Checks:
    """Converts parsed arguments and collects their problems."""

    def __init__(self, values: Dict[str, Any]) -> None:
        self.problems: List[str] = []
        self.values = values

    def add_problem(self, option: str, value: Any, expected: str) -> None:
        found = "is missing" if value is None else f"is {value!r}"
        self.problems.append(f"--{option} {found}: expected {expected}")

    def take(self, option: str, expected: str, convert: Callable[[str], Any]) -> Any:
        """The converted value; `convert` raises ValueError for one that is not as `expected`."""
        value = self.values[option]
        try:
            if value is not None:
                return convert(value)
        except ValueError:
            pass
        self.add_problem(option, value, expected)
        return None

    def name(self, option: str, example: str) -> str:
        def convert(text: str) -> str:
            if not _NAME.fullmatch(text):
                raise ValueError(text)
            return text

        return str(self.take(option, f"letters, digits, '.', '_' and '-', such as {example}", convert))

    def integer(self, option: str, least: int, most: Optional[int] = None) -> Any:
        def convert(text: str) -> int:
            if int(text) < least or (most is not None and int(text) > most):
                raise ValueError(text)
            return int(text)

        expected = f"an integer from {least}" + ("" if most is None else f" to {most}")
        return self.take(option, expected, convert)

    def one_of(self, option: str, choices: Sequence[str]) -> str:
        def convert(text: str) -> str:
            if text not in choices:
                raise ValueError(text)
            return text

        return str(self.take(option, f"one of {', '.join(choices)}", convert))

    def done(self) -> None:
        if self.problems:
            raise BadArguments(self.problems)


def _parse(parser: _Parser, arguments: Sequence[str]) -> _Checks:
    values, unknown = parser.parse_known_args(arguments)
    spelled = {action.dest: action.option_strings[0][2:] for action in parser._actions if action.dest != "help"}
    checks = _Checks({option: _joined(getattr(values, dest)) for dest, option in spelled.items()})
    checks.problems += [f"{text} is not known: expected one of the options of --help" for text in unknown]
    return checks


def _joined(value: Any) -> Any:
    """Joins the lists of an option that is given several times."""
    return [one for part in value for one in part] if isinstance(value, list) else value


def _parser(program: str, description: str) -> _Parser:
    return _Parser(prog=program, description=description, allow_abbrev=False)


def parse_round(program: str, arguments: Sequence[str]) -> RoundOptions:
    """Options of `round`. Raises BadArguments with all faults; opens nothing."""
    parser = _parser(
        program, "Times the rounds of one pod: in each round a fresh process for each setting of torch's threads."
    )
    parser.option("--run-id", metavar="ID", help="one for all rounds and arms of a run")
    parser.option("--arm", metavar="GROUP", help="what is compared, such as none, static or quota")
    parser.option("--round", metavar="LIST", help="from 1, such as 3 or 1,2,3; rounds of equal number are compared")
    parser.option(
        "--threads",
        metavar="LIST",
        default="auto,cpus",
        help="torch's thread counts: auto, a number, or cpus for the CPUs that it may use (default: %(default)s)",
    )
    parser.list_option("--cells", metavar="SPEC", help="model:precision:mode:batch, instead of a matrix")
    parser.option("--matrix", metavar="NAME", help=f"{', '.join(MATRICES)} (default: default, on a CPU cpu)")
    parser.option("--device", metavar="NAME", default="auto", help=f"{', '.join(DEVICES)} (default: auto)")
    parser.option("--block-seconds", metavar="S", default="0.5", help="least time of a visit (default: %(default)s)")
    parser.flag("--warm-up", help="first run a process that warms the machine and is not counted")
    parser.option("--workers", metavar="N", help="of the loader (default: 8, on a CPU 2)")
    parser.option("--image-size", metavar="PIXELS", help="(default: 224, on a CPU 32)")
    parser.option(
        "--auto-threads",
        metavar="HOW",
        default="found",
        help="what auto means: found, as torch finds it; affinity, as many as the mask has CPUs, which Debian's torch "
        "does not take by itself (default: %(default)s)",
    )
    parser.list_option("--env", metavar="KEY=VALUE", help="facts to record")
    parser.option("--output", metavar="FILE", help="JSON lines are appended to it, besides stdout")
    parser.option("--tenant", metavar="K", default="0", help="on a full node: the number of this one, from 0")
    parser.option("--tenants", metavar="N", default="1", help="on a full node: how many there are")
    parser.option("--load", metavar="LIST", default=slots.SOLO, help=f"phases: {', '.join(slots.LOADS)}, in order")
    parser.option("--start-file", metavar="FILE", help="says when a phase begins; each cell then has a slot of time")
    parser.option("--slot-seconds", metavar="S", default="6", help="length of a slot (default: %(default)s)")
    checks = _parse(parser, arguments)
    values = checks.values
    if values["matrix"] is not None and values["cells"] is not None:
        checks.problems.append("--cells and --matrix are both given: expected one of them. Leave one out")
    options = RoundOptions(
        run_id=checks.name("run-id", "--run-id 2024-05-01-a"),
        arm=checks.name("arm", "--arm static"),
        rounds=tuple(checks.take("round", "integers from 1, each once, such as 3 or 1,2,3", _rounds) or ()),
        threads=tuple(checks.take("threads", "auto, cpus or numbers from 1, such as auto,12", _threads) or ()),
        cells=_cells(values["cells"], checks),
        matrix=None if values["matrix"] is None else checks.one_of("matrix", tuple(MATRICES)),
        device=checks.one_of("device", DEVICES),
        block_seconds=checks.take("block-seconds", "seconds from 0.1 to 600, such as 0.5", _seconds),
        warm_up=values["warm-up"],
        workers=None if values["workers"] is None else checks.integer("workers", 0),
        image_size=None if values["image-size"] is None else checks.integer("image-size", 32),
        auto_threads=checks.one_of("auto-threads", AUTO_THREADS),
        env=_env(values["env"] or [], checks),
        output=values["output"],
        place=_place(checks),
    )
    if options.output is not None and not os.path.isdir(os.path.dirname(os.path.abspath(options.output))):
        checks.add_problem("output", options.output, "a file in a folder that exists. Make the folder")
    _check_place(options, checks)
    checks.done()
    return options


def _place(checks: _Checks) -> slots.Place:
    """The place on a full node."""

    def loads(text: str) -> Tuple[str, ...]:
        names = tuple(text.split(","))
        if not set(names) <= set(slots.LOADS) or len(set(names)) < len(names):
            raise ValueError(text)
        return names

    return slots.Place(
        tenant=checks.integer("tenant", 0),
        tenants=checks.integer("tenants", 1),
        loads=checks.take("load", f"some of {', '.join(slots.LOADS)}, each once, such as solo,full", loads) or (),
        start_file=checks.values["start-file"],
        slot_seconds=checks.take("slot-seconds", "seconds from 1 to 600, such as 6", _slot_seconds),
    )


def _check_place(options: RoundOptions, checks: _Checks) -> None:
    """What a place's values must be to each other."""
    place = options.place
    if place.tenant is not None and place.tenants is not None and place.tenant >= place.tenants:
        checks.add_problem("tenant", str(place.tenant), f"less than --tenants, which is {place.tenants}")
    if place.start_file is None:
        if (place.tenants or 1) > 1 or place.loads not in ((), (slots.SOLO,)):
            expected = "a file that says when each load begins, because the tenants need a common clock"
            checks.add_problem("start-file", None, expected)
        return
    if checks.problems:
        return  # one of the two may be among them
    least = slots.least_slot(options.block_seconds)
    if place.slot_seconds < least:
        expected = f"{least:g} or more, for a block and the time to warm up"
        checks.add_problem("slot-seconds", f"{place.slot_seconds:g}", expected)


def _slot_seconds(text: str) -> float:
    if not 1 <= float(text) <= 600:
        raise ValueError(text)
    return float(text)


def _rounds(text: str) -> List[int]:
    rounds = [int(word) for word in text.split(",")]
    if min(rounds) < 1 or len(set(rounds)) < len(rounds):
        raise ValueError(text)
    return rounds


def _threads(text: str) -> List[Optional[int]]:
    def one(word: str) -> Optional[int]:
        if word == "auto":
            return None
        if word == "cpus":
            return 0
        if int(word) < 1:
            raise ValueError(word)
        return int(word)

    return [one(word.strip()) for word in text.split(",")]


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _seconds(text: str) -> float:
    if not 0.1 <= float(text) <= 600:
        raise ValueError(text)
    return float(text)


def _cells(texts: Optional[Sequence[str]], checks: _Checks) -> Optional[List[Cell]]:
    if texts is None:
        return None
    if not texts:
        checks.add_problem("cells", "", "one cell or more, such as resnet18:half:inference:64")
    cells = []
    for text in texts:
        try:
            cells.append(parse_cell(text))
        except ValueError as error:
            checks.problems.append(f"--cells {error}")
    for cell in {cell for cell in cells if cells.count(cell) > 1}:
        checks.problems.append(f"--cells {':'.join(map(str, cell))} is given twice: expected it once. Leave one out")
    return cells


def _env(pairs: Sequence[str], checks: _Checks) -> Dict[str, str]:
    facts: Dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not _KEY.fullmatch(key):
            checks.add_problem("env", pair, "key=value, such as policy=static")
        elif key in FOUND_KEYS:
            checks.problems.append(f"--env {pair}: {key} is what the program finds by itself. Take another key")
        elif key in facts:
            checks.problems.append(f"--env {pair}: {key} is given twice: expected it once. Leave one out")
        else:
            facts[key] = value
    return facts


def parse_original(program: str, arguments: Sequence[str]) -> OriginalOptions:
    """Options of `original`: the names of the original, and what is new. Raises BadArguments with all faults."""
    parser = _parser(
        program,
        "Times the ResNets of ryujaehun/pytorch-gpu-benchmark at batch 64: its steps, its lines, its files. "
        f"What it times by default itself: --families {ALL} -b 12.",
    )
    parser.option("--WARM_UP", "-w", metavar="N", default="5", help="Num of warm up (default: %(default)s)")
    parser.option("--NUM_TEST", "-n", metavar="N", default="50", help="Num of Test (default: %(default)s)")
    parser.option(
        "--BATCH_SIZE", "-b", metavar="N", default=str(BATCH), help="(default: %(default)s; the original's own: 12)"
    )
    parser.option("--NUM_CLASSES", "-c", metavar="N", default=str(CLASSES), help="(default: %(default)s)")
    parser.option("--NUM_GPU", "-g", metavar="N", default="1", help="the batch is multiplied by it (default: 1)")
    parser.option("--folder", "-f", metavar="DIR", default="result", help="for the files (default: %(default)s)")
    parser.list_option(
        "--families",
        metavar="NAME",
        help=f"{', '.join(FAMILIES)}, or {ALL}, which is the original's own default (default: {DEFAULT_FAMILY})",
    )
    parser.list_option("--models", metavar="NAME", help="some ResNets, instead of families")
    parser.list_option("--precisions", metavar="NAME", help="(default: float half double)")
    parser.option("--device", metavar="NAME", default="auto", help=f"{', '.join(DEVICES)} (default: auto)")
    checks = _parse(parser, arguments)
    for option, known in (
        ("families", (*FAMILIES, ALL)),
        ("models", (*RESNETS, "resnext101_64x4d")),
        ("precisions", PRECISIONS),
    ):
        wanted = checks.values[option]
        for value in [""] if wanted == [] else wanted or []:
            if value not in known:
                checks.add_problem(option, value, f"some of {', '.join(known)}")
    families = checks.values["families"] or [DEFAULT_FAMILY]
    if checks.values["families"] is not None and checks.values["models"] is not None:
        checks.problems.append("--families and --models are both given: expected one of them. Leave one out")
    options = OriginalOptions(
        warm_up=checks.integer("WARM_UP", 0),
        tests=checks.integer("NUM_TEST", 1),
        batch=checks.integer("BATCH_SIZE", 1),
        classes=checks.integer("NUM_CLASSES", 1, CLASSES),
        gpus=checks.integer("NUM_GPU", 1),
        folder=checks.take("folder", "the name of a folder", _not_empty),
        families=tuple(family for family in FAMILIES if family in families or ALL in families),
        models=checks.values["models"],
        precisions=checks.values["precisions"],
        device=checks.one_of("device", DEVICES),
    )
    checks.done()
    return options
