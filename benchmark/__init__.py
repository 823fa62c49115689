# SPDX-License-Identifier: GPL-3.0-or-later
"""The proof: reads what benchmark runs left behind and says what two of them allow to claim."""
