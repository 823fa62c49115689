# SPDX-License-Identifier: GPL-3.0-or-later
"""Long runs of kubepin against real clusters: what it survives, and what it costs. `python -m tests.campaigns NAME`."""
