# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds kubepin's decisions to what real kubelets do: `python -m judge allocation` and `python -m judge config`."""
