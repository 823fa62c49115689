# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that build, test and document kubepin. They import the collection by its full name."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "collections"))
