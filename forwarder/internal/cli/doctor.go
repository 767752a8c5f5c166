package cli

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/doctor"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/option"
)

const doctorHelp = `Checks whether this host's records are made, taken and shipped, and lists what is
wrong, the heaviest first, each with what to do. It changes nothing, and works
without root as far as it can; it then says what it could not check.

Checks: audit, enabled, boot, processes (older than auditing, so never audited),
lost, backlog, backlog_wait, daemon, rules, rules_hash, journald, clock, spool, acknowledged, witness, collector,
resolve, name, log_space, permissions, unit, configuration.

With --format json, an array of objects: check, state (ok, warn, fail, unknown),
weight (the heaviest first, 0 for what is right), what, and fix, which is left out
where there is nothing to do.

Exit codes: 0 nothing is wrong, 1 something is to be warned of, 2 wrong command
line, 3 something is at fault. What could not be checked counts as neither.`

// doctorFlags holds the values of doctor's flags.
type doctorFlags struct {
	remote, config, remoteConfig, rulesDir, spool, spoolSize, format, options string
	port                                                                      int // of a collector that names none
	all                                                                       bool
}

func newDoctorCommand(std Stdio) *cobra.Command {
	o := &doctorFlags{}
	cmd := &cobra.Command{
		Use:     "doctor [flags]",
		Short:   "Check this host, and say what is wrong and what to do",
		Long:    doctorHelp,
		Example: "  forwarder doctor\n  forwarder doctor --remote collector:60 --format json",
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.fromOptions(cmd.Flags()); err != nil {
				return err
			}
			return o.run(cmd.Context(), std)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.remote, "remote", "", "try this collector, HOST[:PORT], or several with commas (default those of --remote-config)")
	f.StringVar(&o.options, "options", unitOptions, "options with which the forwarder is started, if the file is there; they say what the flags below do not")
	f.StringVar(&o.config, "config", auditdConf, "auditd.conf")
	f.StringVar(&o.remoteConfig, "remote-config", remoteConf, "audisp-remote.conf")
	f.StringVar(&o.rulesDir, "rules-dir", rulesDir, "folder of the rule files")
	f.StringVar(&o.spool, "spool", defaultSpool, "folder of the spool")
	f.StringVar(&o.spoolSize, "spool-size", "1G", "bound of the spool, in bytes or with K, M, G")
	f.BoolVar(&o.all, "all", false, "list what is right, too")
	f.StringVar(&o.format, "format", "text", "text or json")
	completion.Flags(cmd, map[string]option.Words{
		"options": option.Files, "config": option.Files, "remote-config": option.Files, "rules-dir": option.Folders, "spool": option.Folders, "format": option.These("text", "json"),
	})
	return cmd
}

// fromOptions takes what the command line does not say from the file of options with which
// the unit starts the forwarder. One that nobody named may be missing, or unreadable for
// somebody who is not root.
func (o *doctorFlags) fromOptions(flags *pflag.FlagSet) error {
	started := newRunFlags()
	set := pflag.NewFlagSet("run", pflag.ContinueOnError)
	started.table().AddFlags(set)
	o.port, started.options = started.port(), o.options
	err := started.readOptions(set)
	if !flags.Changed("options") && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
		return nil
	}
	if err != nil {
		return err
	}
	o.port = started.port()
	said := started.given(set)
	for _, v := range []struct {
		flag, value string
		to          *string
	}{
		{"remote", started.remote, &o.remote}, {"config", started.config, &o.config}, {"remote-config", started.remoteConfig, &o.remoteConfig},
		{"spool", started.spoolDir, &o.spool}, {"spool-size", strconv.FormatInt(started.spoolSize, 10), &o.spoolSize},
	} {
		if said(v.flag) && !flags.Changed(v.flag) {
			*v.to = v.value
		}
	}
	return nil
}

func (o *doctorFlags) run(ctx context.Context, std Stdio) error {
	if o.format != "text" && o.format != "json" {
		return command.Wrongf("--format: %q is neither text nor json", o.format)
	}
	size, err := conf.ParseBytes(o.spoolSize)
	if err != nil {
		return command.Wrongf("--spool-size: %w", err)
	}
	h := thisHost()
	h.Config, h.RemoteConfig, h.RulesDir, h.Spool, h.SpoolSize = o.config, o.remoteConfig, o.rulesDir, o.spool, size
	if o.remote != "" {
		if h.Remote, err = parseRemote(o.remote, o.port); err != nil {
			return command.Wrongf("--remote: %w", err)
		}
	}
	list := doctor.Examine(ctx, h)
	if o.format == "json" {
		err = doctor.WriteJSON(std.Out, list)
	} else {
		err = doctor.WriteText(std.Out, list, o.all)
	}
	return errors.Join(err, coded(doctor.ExitCode(list)))
}

// thisHost is the machine we run on.
func thisHost() doctor.Host {
	return doctor.Host{
		Dial: kernel.Dial, Name: os.Hostname, Now: time.Now, Note: boot.DefaultNote,
		Connect: func(ctx context.Context, address string) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return err
			}
			return conn.Close()
		},
		Lookup: (&net.Resolver{}).LookupHost,
		Clock: func() (bool, error) {
			var t unix.Timex
			state, err := unix.Adjtimex(&t)
			return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err
		},
		Space:        fsys.OS.Space,
		Acknowledged: agent.Acknowledged,
		Witness:      witness.Describe,
	}
}
