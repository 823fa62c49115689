# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of removed settings, made of Go sources."""

from __future__ import annotations

from tools.removed_settings import feature_gates, kubelet_flags, removed

GATES = """
const (
	// MyFeature featuregate.Feature = "MyFeature"
	Kept featuregate.Feature = "Kept"
	KeptBySingle featuregate.Feature = "Single"
	Unregistered featuregate.Feature = "Unregistered"
)
const Elsewhere featuregate.Feature = "Elsewhere"
var gates = map[featuregate.Feature]featuregate.FeatureSpec{
	Kept: {Default: true},
	other.KeptBySingle: {
	// Unregistered: {Default: true},
	genericfeatures.Elsewhere: {Default: true},
}
"""
FLAGS = """
	fs.StringVar(&f.Config, "config", f.Config, "The \\"file\\" of --old-flag.")
	fs.Var(flag.NewMapStringString(&c.Options), "policy-options", "A set")
	fs.VarP(VerbosityLevelPflag(&c.Verbosity), "v", "v", "number")
	_ = fs.Bool("redirect", false, "[REMOVED]")
	fs.MarkDeprecated("config", "text")
	registerDeprecated(global, local, "boot_id_file", deprecated)
	register(global, local, cadvisorflags.HousekeepingInterval)
"""
KLOG = """	flagset.StringVar(&logging.logDir, "log_dir", logging.logDir, "text")"""


def test_feature_gates_are_defined_and_registered() -> None:
    assert feature_gates([GATES]) == {"Kept", "Single", "Elsewhere"}


def test_flags_in_all_their_forms() -> None:
    own = {"config", "policy-options", "v", "redirect", "boot-id-file", "housekeeping-interval"}
    assert kubelet_flags([FLAGS], KLOG) == own
    assert kubelet_flags([FLAGS, "klog.InitFlags(flag.CommandLine)"], KLOG) == {*own, "log-dir"}


def test_only_what_the_newest_version_lacks_is_removed() -> None:
    assert removed({20: {"a", "b", "c"}, 21: {"b", "c"}, 22: {"a", "c"}, 23: {"c"}}, 23) == {"a": 23, "b": 22}
