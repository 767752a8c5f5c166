package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/internal/golden"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/settings"
	"github.com/auditfleet/auditfleet/pkg/settings/settingstest"
	"github.com/auditfleet/auditfleet/pkg/settings/texts"
)

// The lists of the manual pages are as the tables have them, and the tables have every
// key of the stock files.
func TestMadeFromTheTable(t *testing.T) {
	auditd, remote := conf.DefaultAuditd(), remoteDefaults()
	ofAuditd, ofRemote := auditdTable(&auditd), remoteTable(&remote)
	golden.ComparePart(t, "../../../deploy/man/forwarder-run.8", "options", texts.ManOptions(newRunFlags().table(), false))
	golden.ComparePart(t, "../../../deploy/man/forwarder.conf.5", "auditd", texts.ManKeys(ofAuditd))
	golden.ComparePart(t, "../../../deploy/man/forwarder.conf.5", "remote", texts.ManKeys(ofRemote))
	anyOrder := cmpopts.SortSlices(func(a, b string) bool { return a < b })
	if diff := cmp.Diff(auditd.HostSchema().Names(), append(ofAuditd.Schema(), conf.IgnoredOnHost()...).Names(), anyOrder); diff != "" {
		t.Errorf("keys of auditd.conf (-there are +in the table):\n%s", diff)
	}
	if diff := cmp.Diff(remote.Schema().Names(), ofRemote.Schema().Names(), anyOrder); diff != "" {
		t.Errorf("keys of audisp-remote.conf (-there are +in the table):\n%s", diff)
	}
}

func TestFlagsAndKeysAreSpelledAlike(t *testing.T) {
	var last *runFlags
	settingstest.Same(t, func() settings.Table {
		last = newRunFlags()
		return last.table()
	}, func(settings.Table) conf.Schema {
		return last.optionsSchema(pflag.NewFlagSet("run", pflag.ContinueOnError))
	})
}
