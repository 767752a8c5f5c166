package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship/grpc"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/built"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

const runHelp = `Reads audit records, keeps the local log and ships every record to a collector.

Sources:
  kernel     be this host's audit daemon: register with the kernel, write the
             local log (the default)
  multicast  listen beside another audit daemon; writes no local log unless
             --log-file is given
  stdin      records from a stock dispatcher, in its string or binary format
  FILE       an audit.log, perhaps compressed (gzip, zstd, xz, bzip2); ends when all of it is
             acknowledged, and says how much that was, or goes on through rotation
             with --follow

Records wait in the spool until the collector has acknowledged them. Without
--remote they stay in the local log.

A full queue never stalls the host: records rest in the receive buffer, and when
that is three quarters full too (multicast: three eighths) they are dropped and
counted by cause, which is also said in a DAEMON_ERR record. A full spool drops its oldest records (source
kernel or multicast) or makes the source wait (stdin, FILE).

As a plugin of a stock auditd (stdin) the end of the input leaves the spool to the
next start at once, which waits for it.

Signals: TERM and INT end, after what is spooled had --shutdown-timeout to go out,
while the kernel is still read (a second one ends at once); HUP reads auditd.conf,
audisp-remote.conf and the
plugins' files again and resumes shipping; USR1 rotates the local log; USR2
resumes it, plugins and shipping; CONT writes the state report.

Servers are tried in order. While a later one is used, those before it are tried
every --probe-interval, and the first that answers takes over once everything in
flight is acknowledged.

The actions written in audisp-remote.conf are followed; a key that is not there
keeps the records and goes on trying for ever, whatever stock's default is. stop
and suspend end shipping until USR2 or HUP, and the spool keeps its records.

auditd.conf has every stock key, and three of ours: log_compress = none|zstd (of
rotated logs, in the background), rotated_names = numbers|dated (dated: by the
UTC time of the rotation, audit.log.2026-11-22T10-00-00) and queue_full_action =
auto|wait|drop: while the queue between the kernel and the disk is full, wait
leaves records to the kernel, whose backlog and failure mode decide, drop drops
and counts them, auto waits in failure mode 2 or with overflow_action single or
halt. SIGHUP has it read again.

Unless set in the environment, GOMAXPROCS is 2, GOGC 50, and GOMEMLIMIT 16 MiB,
and --queue (kernel, multicast), and 4 MiB with a collector, 8 with grpc, and
8 MiB for each active plugin.

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 not all of the input was
acknowledged: not within --drain-timeout (the rest is in the spool), or it was
told to end before it had read all of a file; 6 a configuration file is refused.`

const runExample = `  forwarder --remote collector:60
  forwarder --source multicast --remote a:60,b:60 --node web1
  forwarder --source /var/log/audit/audit.log --follow --remote collector:60`

func newRunCommand(std Stdio, version string) *cobra.Command {
	o := newRunFlags()
	cmd := &cobra.Command{
		Short:   "Read, log and ship audit records",
		Long:    runHelp,
		Example: runExample,
		Args:    command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.readOptions(cmd.Flags()); err != nil {
				return err
			}
			return o.placedFlag(o.run(cmd.Context(), o.given(cmd.Flags()), std, version))
		},
	}
	cmd.Flags().SortFlags = false
	o.table().AddFlags(cmd.Flags())
	completion.Flags(cmd, runWords(o.table()))
	return cmd
}

func isLeft(err error) bool { return errors.Is(err, agent.ErrLeft) }

// run makes a configuration of flags and files, and runs the agent until its end.
func (o *runFlags) run(ctx context.Context, given func(string) bool, std Stdio, version string) error {
	logger := o.logger(std.Err)
	cfg, err := o.resolve(ctx, given, logger)
	if err != nil && !errors.Is(err, agent.ErrLookup) {
		err = command.Refused(err)
	}
	if err != nil {
		return o.placed(err)
	}
	if o.onlyCheck {
		return o.checked(&cfg, std, logger)
	}
	cfg.Stdin, cfg.Version, cfg.Commit = std.In, version, built.Commit()
	var status io.Writer
	if o.drainOnly || o.fromFile() && !o.follow {
		status = std.Err
	}
	if o.optionsFile != nil {
		warn(o.optionsFile, logger)
	}
	return runAgent(ctx, cfg, status, std.signals)
}

// logger returns the logger that the flags ask for.
func (o *runFlags) logger(to io.Writer) hclog.Logger {
	if !o.logJSON { // the guard's octal escapes are not JSON
		to = terminal.GuardLog(to)
	}
	return hclog.New(&hclog.LoggerOptions{Name: "forwarder", Level: hclog.LevelFromString(o.logLevel), Output: to, JSONFormat: o.logJSON})
}

// checked says what --check has found; cfg was resolved without an error.
func (o *runFlags) checked(cfg *agent.Config, std Stdio, logger hclog.Logger) error {
	if cfg.Names != nil {
		cfg.Names.Close()
	}
	if o.optionsFile != nil {
		warn(o.optionsFile, logger)
	}
	if len(o.faults) > 0 {
		return command.Refused(errors.Join(o.faults...))
	}
	fmt.Fprintln(std.Out, "forwarder: the configuration is right")
	return nil
}

// limitRuntime keeps the forwarder small, for its host has other work to do, unless the
// administrator has set GOMEMLIMIT, GOGC or GOMAXPROCS. Two cores are more than reading
// and sending need.
func limitRuntime(cfg *agent.Config) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit(cfg))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(min(2, runtime.NumCPU()))
	}
}

// memoryLimit is the size of the process from which on Go's garbage collector runs more
// often. It must be more than is ever in use, or the garbage collector takes all the
// processor's time: so it is twice the megabytes that are always in use, and what the
// queues hold when the disk, the network or a plugin hangs.
func memoryLimit(cfg *agent.Config) int64 {
	const always, plugin = 16 << 20, 8 << 20
	limit := int64(always)
	if cfg.Source == agent.SourceKernel || cfg.Source == agent.SourceMulticast {
		limit += int64(cfg.Kernel.QueueBytes)
	}
	if cfg.Ship != nil {
		limit += spool.MaxUnsynced // when its disk is slower than what comes
		if _, ok := cfg.Ship.Transport.(*grpc.Transport); ok {
			limit += 4 << 20 // compressing, TLS, and batches on their way
		}
	}
	if cfg.Plugins != nil {
		for _, p := range cfg.Plugins.Plugins {
			if p.Active {
				limit += plugin
			}
		}
	}
	return limit
}
