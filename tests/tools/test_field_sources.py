# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of what sets fields besides files, made of Go sources."""

from __future__ import annotations

import pytest
from ansible_collections.kubepin.tuning.plugins.module_utils.common.kubelet.flags import FLAGS

from tools.field_sources import TARGET, Types, filled_in, flag_fields, render, without_default

TYPES = """
type KubeletConfiguration struct {
	metav1.TypeMeta `json:",inline"`

	// max pods has a comment with a `quote`
	MaxPods int32 `json:"maxPods,omitempty"`
	Period metav1.Duration `json:"period"`
	Authentication Authentication `json:"authentication"`
	SystemReserved map[string]string `json:"systemReserved,omitempty"`
	Taints []Taint `json:"taints"`
	Logging logsapi.LoggingConfiguration `json:"logging,omitempty"`
}

type Authentication struct {
	X509 *X509 `json:"x509"`
	Anonymous bool `json:"anonymous"`
}

type X509 struct {
	ClientCAFile string `json:"clientCAFile,omitempty"`
}

type Taint struct {
	Key string `json:"key"`
}

type LoggingConfiguration struct {
	Format string `json:"format,omitempty"`
	FlushFrequency TimeOrMetaDuration `json:"flushFrequency"`
	Options FormatOptions `json:"options,omitempty"`
}

type FormatOptions struct {
	JSON JSONOptions `json:"json,omitempty"`
}

type JSONOptions struct {
	OutputRoutingOptions `json:",inline"`
}

type OutputRoutingOptions struct {
	SplitStream bool `json:"splitStream,omitempty"`
}
"""
OPTIONS = """
	fs.StringVar(&f.Config, "config", f.Config, "No field, but a file.")
	fs.Int32Var(&c.MaxPods, "max-pods", c.MaxPods, "Number.")
	fs.DurationVar(&c.Period.Duration, "period", c.Period.Duration, "Examples: '300ms'.")
	fs.StringVar((*string)(&c.Authentication.X509.ClientCAFile), "client-ca-file", "", ""+
		"Text.")
	fs.Var(cliflag.NewMapStringString(&c.SystemReserved), "system-reserved", "A set.")
	fs.Var(&utilflag.TaintsVar{Value: &c.Taints}, "register-with-taints", "A list.")
"""
LOG_OPTIONS = """
const logFlushFreqFlagName = "log-flush-frequency"
	fs.DurationVar(&c.FlushFrequency.Duration.Duration, logFlushFreqFlagName, c.FlushFrequency.Duration.Duration, "Seconds.")
	fs.BoolVar(&c.Options.JSON.SplitStream, "log-json-split-stream", false, "Text.")
"""
DEFAULTS = """
	if obj.MaxPods == 0 {
		obj.MaxPods = 110
	}
	obj.Authentication.Anonymous = false
	logsapi.SetRecommendedLoggingConfiguration(&obj.Logging)
"""
SERVER = """
			s.SystemReserved = make(map[string]string)
		s.NotAField = 1
	if kc.Period == other {
		kc.Period = other
"""


def test_flags_in_all_their_forms() -> None:
    assert flag_fields(Types.of([TYPES]), OPTIONS, [LOG_OPTIONS]) == {
        "max-pods": "maxPods",
        "period": "period",
        "client-ca-file": "authentication.x509.clientCAFile",
        "system-reserved": "systemReserved",
        "register-with-taints": "taints",
        "log-flush-frequency": "logging.flushFrequency",
        "log-json-split-stream": "logging.options.json.splitStream",
    }


@pytest.mark.parametrize(
    "options", ['fs.StringVar(&c.Other, "other", c.Other, "")', "fs.StringVar(&c.MaxPods, name, 1)"]
)
def test_a_flag_without_a_field_or_a_name_is_named(options: str) -> None:
    with pytest.raises(ValueError, match=r"the flag (other|name) for (Other|MaxPods): expected"):
        flag_fields(Types.of([TYPES]), options, [])


def test_a_field_has_no_default_if_nothing_fills_it_in() -> None:
    types = Types.of([TYPES])
    filled = filled_in(types, [DEFAULTS, SERVER])
    assert filled == {"maxPods", "authentication.anonymous", "logging", "period"}
    assert without_default(types.leaves(), filled) == {"authentication.x509.clientCAFile", "systemReserved", "taints"}


def test_the_tables_in_the_collection_have_the_form_that_is_written_and_the_fields_of_all_flags() -> None:
    written: dict[str, object] = {}
    exec(render({"a": "b"}, ["c", "d"], 22), written)
    assert (written["FLAG_FIELDS"], written["WITHOUT_DEFAULT"]) == ({"a": "b"}, {"c", "d"})
    kept: dict[str, dict[str, str]] = {}
    exec(TARGET.read_text(), kept)
    assert set(written) == set(kept)
    assert {flag: kept["FLAG_FIELDS"].get(flag) for flag in FLAGS} == {
        flag: field for flag, (field, _kind) in FLAGS.items()
    }
