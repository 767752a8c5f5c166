package cli

import (
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
)

// alerts returns the section about alerts: a key for each condition, and a few about all.
func (o *options) alerts() settings.Section {
	a := &o.server.Alerts
	if a.Every == 0 {
		*a = alert.DefaultConfig()
	}
	section := settings.Section{Title: "Alerts", Doc: "Each condition is off, or a threshold, a severity (info, warning, critical) or both: 30m critical.\n" +
		"`collector alerts conditions` shows what holds.",
		List: []settings.Setting{
			{Key: conf.Duration("alert_interval", &a.Every, time.Second, time.Hour), In: settings.FileOnly, Default: a.Every, Arg: "DURATION",
				Doc: "How often the conditions are looked at."},
			{Key: conf.Duration("alert_group", &a.Group, 0, time.Hour), In: settings.FileOnly, Default: a.Group, Arg: "DURATION",
				Doc: "How long alerts of one condition and severity are gathered before they are told together."},
			{Key: conf.Duration("alert_repeat", &a.Repeat, 0, 8760*time.Hour), In: settings.FileOnly, Default: a.Repeat, Arg: "DURATION",
				Doc: "How often alerts that go on are told again; 0 is never."},
			{Key: conf.Duration("alert_hold", &a.Hold, time.Second, 8760*time.Hour), In: settings.FileOnly, Default: a.Hold, Arg: "DURATION",
				Doc: "How long something that was counted (loss, serial-gaps, name-mismatch, two-hosts, rules-changed, seal) must not happen again before its alert is over."},
			{Key: conf.List("alert_ignore", &a.Ignore), In: settings.FileOnly, Arg: "[CONDITION:]HOST[,…]", Example: "build-*,host-silent:laptop-*",
				Doc: "Hosts that no alert is about, or none of one condition; * stands for any text."},
			{Key: conf.Path("alert_rules", &a.RulesFile), In: settings.FileOnly, Arg: "FILE", Example: "/etc/auditfleet/expected-rules",
				Doc: "Which rules are expected of which hosts: lines of hosts or patterns, and hashes as `forwarder doctor --all` prints them (rules_hash).\n" +
					"The first line that has a host counts; of hosts without one any rules are right."},
		}}
	for c := range alert.NumConditions {
		section.List = append(section.List, settings.Setting{Key: conditionKey(c, &a.Settings[c]), In: settings.FileOnly, Default: c.Format(c.Default()), Arg: "SETTING", Doc: c.Doc()})
	}
	return section
}

// conditionKey returns the key of a condition.
func conditionKey(c alert.Condition, to *alert.Setting) conf.Key {
	return conf.Key{
		Name: "alert_" + strings.ReplaceAll(c.String(), "-", "_"), Words: 2, Range: c.Range(),
		Get: func() string { return c.Format(*to) },
		Set: func(v string) error {
			s, err := c.ParseSetting(v)
			if err == nil {
				*to = s
			}
			return err
		},
	}
}
