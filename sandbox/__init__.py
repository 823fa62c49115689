# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Kubernetes cluster in containers on one machine, built from source packages, with a stand-in for the GPU."""
