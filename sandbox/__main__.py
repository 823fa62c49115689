# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of `python3 -m sandbox`."""

import sys

from sandbox.cli import main

sys.exit(main())
