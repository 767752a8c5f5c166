package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Where the unit stands in for auditd.service, the host has its rules after it was
// started again, and goes on auditing while the forwarder is.
func TestUnitStandsInForAuditd(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/auditfleet-forwarder.service")
	if err != nil {
		t.Fatal(err)
	}
	const program = "/usr/local/sbin/forwarder"
	commands := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if key, command, ok := strings.Cut(strings.TrimSpace(line), "="); ok && strings.HasPrefix(key, "Exec") {
			if args := strings.Fields(command); strings.TrimPrefix(args[0], "-") == program {
				commands[key] = args[1:]
			}
		}
	}
	if diff := cmp.Diff([]string{"ctl", "-e", "1"}, commands["ExecStartPre"]); diff != "" {
		t.Errorf("before the start: %s", diff)
	}
	if diff := cmp.Diff([]string{"rules", "load"}, commands["ExecStartPost"]); diff != "" {
		t.Errorf("after the start: %s", diff)
	}
	for _, off := range []string{"audit=0", "audit=off"} { // as in auditd.service
		if !strings.Contains(string(text), "\nConditionKernelCommandLine=!"+off+"\n") {
			t.Errorf("the unit is started with %s on the kernel's command line", off)
		}
	}
	if _, err := rules.ParseArgs(commands["ExecStartPre"][1:], rules.SystemEnv()); err != nil {
		t.Error(err)
	}
	std := Stdio{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}}
	if c, rest, err := newRulesCommand(std, "v").Find(commands["ExecStartPost"][1:]); err != nil || c.Name() != "load" || len(rest) > 0 {
		t.Errorf("rules %q: %v", rest, err)
	}
	if err := newRunCommand(std, "v").ParseFlags(commands["ExecStart"]); err != nil || len(commands["ExecStart"]) == 0 {
		t.Errorf("the start: %q, %v", commands["ExecStart"], err)
	}
}

// What packages put into /etc/auditfleet is taken without a warning, starts on a host that
// never had auditd, and ends neither auditing nor shipping for anything that fails.
func TestShippedConfiguration(t *testing.T) {
	t.Chdir("../../../deploy")
	text, err := os.ReadFile("forwarder.conf")
	if err != nil {
		t.Fatal(err)
	}
	for _, with := range []string{"", "#remote_config", "#remote "} { // as it is, and with one of its examples
		file := optionsFile(t, strings.ReplaceAll(strings.Replace(string(text), with, strings.TrimPrefix(with, "#"), 1), "/etc/auditfleet/", ""))
		o, err := readOptionsOf(t, file)
		if err != nil {
			t.Fatal(err)
		}
		given := func(name string) bool { return o.optionsFile.Has(name) }
		ac, f, err := o.auditd(given, hclog.NewNullLogger())
		if err != nil || len(f.Warnings) > 0 {
			t.Fatalf("%v, %v", err, f)
		}
		for key, action := range map[string]conf.Action{
			"space_left_action": ac.SpaceLeftAction, "admin_space_left_action": ac.AdminSpaceLeftAction,
			"disk_full_action": ac.DiskFullAction, "disk_error_action": ac.DiskErrorAction, "overflow_action": ac.OverflowAction,
		} {
			if action.Do == conf.DoSuspend || action.Do == conf.DoHalt || action.Do == conf.DoSingle || action.Do == conf.DoStop {
				t.Errorf("%s ends auditing: %v", key, action)
			}
		}
		if o.remoteConfig == "" {
			continue
		}
		var rc conf.Remote
		rf, err := o.remoteFile(&rc, &ship.Config{}, hclog.NewNullLogger())
		if err != nil || len(rf.Warnings) > 0 {
			t.Fatalf("%v, %v", err, rf)
		}
		for _, key := range []string{"network_failure_action", "queue_error_action", "disk_full_action", "disk_error_action", "generic_error_action"} {
			if rf.Has(key) {
				t.Errorf("%s is named: an action that is not keeps the records and goes on trying", key)
			}
		}
	}
}

// doctor looks at what the unit starts: the options in its file, but for what is asked.
func TestDoctorReadsTheUnitsOptions(t *testing.T) {
	file := optionsFile(t, "config = /x/auditd.conf\nremote = a\ntransport = grpc\nspool_size = 2M\n")
	for _, c := range []struct {
		args []string
		want doctorFlags
	}{
		{nil, doctorFlags{config: "/x/auditd.conf", remote: "a", port: 6060, spool: defaultSpool, spoolSize: "2097152"}},
		{[]string{"--config", "/y", "--spool-size", "3M"}, doctorFlags{config: "/y", remote: "a", port: 6060, spool: defaultSpool, spoolSize: "3M"}},
	} {
		o := &doctorFlags{config: auditdConf, spool: defaultSpool, spoolSize: "1G", options: file}
		flags := pflag.NewFlagSet("doctor", pflag.ContinueOnError)
		for name, value := range map[string]*string{"config": &o.config, "spool-size": &o.spoolSize, "remote": &o.remote, "options": &o.options} {
			flags.StringVar(value, name, *value, "")
		}
		if err := flags.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if err := o.fromOptions(flags); err != nil {
			t.Fatal(err)
		}
		c.want.options = file
		if *o != c.want {
			t.Errorf("%q: %+v, not %+v", c.args, *o, c.want)
		}
	}
	var said bytes.Buffer
	std := Stdio{Out: &said, Err: &said}
	if code := Run(t.Context(), []string{"forwarder", "doctor", "--options", optionsFile(t, "spol = x\n")}, std, "v"); code != exitConfig || !strings.Contains(said.String(), "options.conf:1: ") {
		t.Errorf("exit %d: %s", code, said.String())
	}
	if err := (&doctorFlags{options: "/nonexistent"}).fromOptions(pflag.NewFlagSet("doctor", pflag.ContinueOnError)); err != nil {
		t.Errorf("a file that nobody named: %v", err)
	}
}
