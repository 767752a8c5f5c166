package cli

import (
	"bytes"
	"slices"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/option/manpage"
)

func flagsOf(cmd *cobra.Command) (names []string) {
	add := func(f *pflag.Flag) {
		names = append(names, "--"+f.Name)
		if f.Shorthand != "" {
			names = append(names, "-"+f.Shorthand)
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.PersistentFlags().VisitAll(add)
	for _, c := range cmd.Commands() {
		names = append(names, flagsOf(c)...)
	}
	return names
}

// The manual pages have every option, flag and key that there is, and no other.
func TestManualPages(t *testing.T) {
	std := Stdio{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}
	read := func(name string) *manpage.Page {
		page, err := manpage.Read("../../../deploy/man/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	help := []string{"-h", "--help"}
	for name, real := range map[string][]string{
		"forwarder-run.8":     append(append(flagsOf(newRunCommand(std, "v")), help...), "-v", "--version"),
		"forwarder-ctl.8":     ctlOptions().Names(),
		"forwarder-rules.8":   append(append(flagsOf(newRulesCommand(std, "v")), augenrulesOptions.Names()...), help...),
		"forwarder-trace.8":   traceOptions.Names(),
		"forwarder-syscall.8": syscallOptions.Names(),
		"forwarder-doctor.8":  append(flagsOf(newDoctorCommand(std)), help...),
		"forwarder-witness.8": append(slices.Compact(slices.Sorted(slices.Values(flagsOf(newWitnessCommand(std))))), help...),
		"forwarder-enroll.8":  append(flagsOf(newEnrollCommand(std)), help...),
		"forwarder-import.8":  append(flagsOf(newImportCommand(std, nil)), help...),
	} {
		for _, wrong := range manpage.Compare("option", read(name).Options, real) {
			t.Errorf("%s: %s", name, wrong)
		}
	}
	page := read("forwarder.conf.5")
	auditd, remote, plugin := conf.DefaultAuditd(), conf.DefaultRemote(), conf.DefaultPlugin()
	for section, schema := range map[string]conf.Schema{"AUDITD.CONF": append(auditd.Schema(), auditd.OwnHostKeys()...), "AUDISP-REMOTE.CONF": remote.Schema(), "PLUGIN FILES": plugin.Schema()} {
		var keys []string
		for _, k := range schema {
			keys = append(keys, k.Name)
		}
		for _, wrong := range manpage.Compare("key", page.Keys[section], keys) {
			t.Errorf("forwarder.conf.5, %s: %s", section, wrong)
		}
	}
}
