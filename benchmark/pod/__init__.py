# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark in the pod: Python 3.6 and later with its standard library, torch 1.9 and later, torchvision."""
