# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers of results: our JSON lines, and the logs and CSV folders of ryujaehun/pytorch-gpu-benchmark.

`json_lines`, `original_log` and `original_tables` turn text into data, one format each; `files` reads files. Every
reader raises InputError with all problems that it found, each with the place, the value, what was expected and the
remedy. `plausible` has the rules for times that hold for all formats.
"""

from .files import has_arms, locate, read, read_arms, read_runs, texts
from .json_lines import parse_arms, parse_json_lines, parse_runs
from .original_log import parse_log
from .original_tables import parse_csv_folder

__all__ = [
    "has_arms",
    "locate",
    "parse_arms",
    "parse_csv_folder",
    "parse_json_lines",
    "parse_log",
    "parse_runs",
    "read",
    "read_arms",
    "read_runs",
    "texts",
]
