# SPDX-License-Identifier: GPL-3.0-or-later
# What the attributes mean; each module says how far it supports them.
from __future__ import annotations


class ModuleDocFragment:
    """Documentation shared by all modules of the collection."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the changed status prediction without modifying the target.
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)) in diff mode.
"""
