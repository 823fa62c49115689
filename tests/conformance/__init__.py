# SPDX-License-Identifier: GPL-3.0-or-later
"""kubepin's decisions against an oracle, the real kubelet: `python -m tests.conformance allocation` and `... config`."""
