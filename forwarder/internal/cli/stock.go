package cli

import (
	"context"
	"errors"
	"flag"
	"io"
	"path/filepath"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/pkg/command"
)

func givenAs(names ...string) func(string) bool {
	return func(name string) bool {
		for _, n := range names {
			if n == name {
				return true
			}
		}
		return false
	}
}

const auditdUsage = `Usage: auditd [-f] [-l] [-n] [-s disable|enable|nochange] [-c CONFIG_DIR]

The forwarder under the stock daemon's name: registers with the kernel and writes
the local log by CONFIG_DIR/auditd.conf (default /etc/audit). It always stays in
the foreground, as with -n; -f logs more; -l follows a symbolic link in auditd.conf's
place.
`

// runAsAuditd takes the stock daemon's options.
func runAsAuditd(ctx context.Context, args []string, std Stdio, version string) error {
	o := newRunFlags()
	fs := flag.NewFlagSet("auditd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	verbose := fs.Bool("f", false, "")
	links := fs.Bool("l", false, "")
	fs.Bool("n", false, "")
	fs.StringVar(&o.kernelState, "s", o.kernelState, "")
	dir := fs.String("c", filepath.Dir(auditdConf), "")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			_, err := io.WriteString(std.Out, auditdUsage)
			return err
		}
		return command.Wrong(err)
	}
	if fs.NArg() > 0 {
		return command.Wrongf("unknown argument %q", fs.Arg(0))
	}
	o.refuseLinks = !*links
	o.config = filepath.Join(*dir, filepath.Base(auditdConf))
	if *verbose {
		o.logLevel = "debug"
	}
	return o.run(ctx, givenAs("config"), std, version)
}

const remoteUsage = `Usage: audisp-remote

The forwarder under the stock plugin's name: ships the records it reads from
standard input as /etc/audit/audisp-remote.conf says.
`

// runAsRemote is a plugin of a stock dispatcher, which takes no options.
func runAsRemote(ctx context.Context, args []string, std Stdio, version string) error {
	for _, a := range args {
		if a == "-h" || a == "--help" {
			_, err := io.WriteString(std.Out, remoteUsage)
			return err
		}
	}
	if len(args) > 0 {
		return command.Wrongf("unknown argument %q", args[0])
	}
	o := newRunFlags()
	o.source, o.remoteConfig = agent.SourceStdin, remoteConf
	return o.run(ctx, givenAs("remote-config"), std, version)
}
