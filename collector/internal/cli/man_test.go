package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/option/manpage"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// flagsOf are the flags of commands as they are written.
func flagsOf(cmds ...*cobra.Command) (names []string) {
	for _, c := range cmds {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			names = append(names, "--"+f.Name)
			if f.Shorthand != "" {
				names = append(names, "-"+f.Shorthand)
			}
		})
	}
	return names
}

// evidencePage is what collector-evidence(8) has: options that choose events are in collector-search(8).
func evidencePage() (names []string) {
	names = []string{"--key"} // of evidence verify
	for _, o := range evidenceOptions() {
		if search.OptionTable().Find(o.Names[0]) == nil {
			names = append(names, o.Names...)
		}
	}
	return names
}

// The manual pages have every option, flag and key that there is, and no other.
func TestManualPages(t *testing.T) {
	p := &program{}
	imports, backup, verify, salvage, serve, ca, token := p.importCommand(), p.backupCommand(), p.verifyCommand(), p.salvageCommand(), p.serveCommand(), p.caCommand(), p.tokenCommand()
	serve.InitDefaultHelpFlag()
	read := func(name string) *manpage.Page {
		page, err := manpage.Read("../../../deploy/man/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	for name, real := range map[string][]string{
		"collector-search.8":   append(searchOptions().Names(), "--config"),
		"collector-report.8":   append(reportOptions().Names(), "--auditd-conf"),
		"collector-last.8":     append(lastOptions().Names(), "--config"),
		"collector-lastlog.8":  append(lastlogOptions().Names(), "--config"),
		"collector-coverage.8": coverageOptions().Names(),
		"collector-serve.8":    flagsOf(serve),
		"collector-alerts.8":   flagsOf(append(p.alertsCommand().Commands(), p.alertsCommand())...),
		"collector-verify.8":   flagsOf(backup, verify, salvage),
		"collector-import.8":   flagsOf(imports),
		"collector-ca.8":       flagsOf(append(ca.Commands(), token)...),
		"collector-hosts.8":    flagsOf(p.hostsCommand()),
		"collector-evidence.8": evidencePage(),
		"collector-hold.8":     flagsOf(p.holdCommand().Commands()...),
		"collector-seal.8":     flagsOf(append(p.sealCommand().Commands(), p.sealCommand())...),
	} {
		page := read(name)
		for _, wrong := range manpage.Compare("option", page.Options, real) {
			t.Errorf("%s: %s", name, wrong)
		}
		for _, words := range page.Examples {
			table := map[string]option.Table{"search": searchOptions(), "report": reportOptions(), "coverage": coverageOptions(), "last": lastOptions(), "lastlog": lastlogOptions()}[words[1]]
			if table == nil {
				continue
			}
			for i, w := range words {
				if o := table.Find(w); strings.HasPrefix(w, "-") && o == nil && (i == 0 || words[i-1] != "-e") {
					t.Errorf("%s: in the example %v is %s, which is no option", name, words, w)
				}
			}
		}
	}
	keys := newOptions().table().Schema().Names()
	for _, wrong := range manpage.Compare("key", read("collector.conf.5").Keys["KEYS"], keys) {
		t.Errorf("collector.conf.5: %s", wrong)
	}
}

// What is offered for a flag is taken.
func TestFlagWordsAreTaken(t *testing.T) {
	for name, words := range newOptions().table().Words() {
		if words.List == nil {
			continue
		}
		for _, w := range words.List(nil, "") {
			if _, _, err := configured(t, "", "--"+name, w); err != nil {
				t.Errorf("--%s %s: %v", name, w, err)
			}
		}
	}
}
