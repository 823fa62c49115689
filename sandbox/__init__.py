# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Kubernetes cluster in containers on one machine, of released programs or built from source, with a stand-in for the GPU."""
