# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import settings

# the same examples in every run, and no limit of time for one, because the machine may be busy
settings.register_profile("kubepin", max_examples=100, derandomize=True, database=None, deadline=None)
settings.load_profile("kubepin")
