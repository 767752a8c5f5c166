package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

const runHelp = `Reads audit records, keeps the local log and ships every record to a collector.

Sources:
  kernel     be this host's audit daemon: register with the kernel, write the
             local log (the default)
  multicast  listen beside another audit daemon; writes no local log unless
             --log-file is given
  stdin      records from a stock dispatcher, in its string or binary format
  FILE       an audit.log, perhaps compressed (gzip, zstd); ends when all of it is
             acknowledged, and says how much that was, or goes on through rotation
             with --follow

Records wait in the spool until the collector has acknowledged them. Without
--remote they stay in the local log.

A full queue never stalls the host: records rest in the receive buffer, and when
that is three quarters full too they are dropped and counted by cause, which is
also said in a DAEMON_ERR record. A full spool drops its oldest records (source
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
and --queue (kernel, multicast), and 8 MiB for each active plugin.

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 input drained but not all
of it acknowledged within --drain-timeout (the rest is in the spool).`

const runExample = `  forwarder --remote collector:60
  forwarder --source multicast --remote a:60,b:60 --node web1
  forwarder --source /var/log/audit/audit.log --follow --remote collector:60`

// runFlags are the flags of run as given.
type runFlags struct {
	config, remoteConfig string
	refuseLinks          bool // for config, also where it was named
	remote, transport    string
	format               string
	window               int
	node                 string
	source               string
	follow               bool
	spoolDir, spoolSize  string
	state, logFile       string
	http                 string
	kernelState          string
	receiveBuffer, queue string
	drain, shutdown      time.Duration
	logLevel             string
	allowHalt            bool
	report               string
	probe                time.Duration
	spoolFull            string
	drainOnly            bool
	pidFile              string
	plugin               bool
	options              string
	optionsFile          *conf.File // nil: none
}

func newRunCommand(std Stdio, version string) *cobra.Command {
	o := &runFlags{}
	cmd := &cobra.Command{
		Short:   "Read, log and ship audit records",
		Long:    runHelp,
		Example: runExample,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.readOptions(cmd.Flags()); err != nil {
				return err
			}
			return o.placed(o.run(cmd.Context(), cmd.Flags().Changed, std, version))
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.source, "source", agent.SourceKernel, "where records come from: kernel, multicast, stdin or a file")
	f.BoolVar(&o.follow, "follow", false, "go on at the end of a file, through rotation")
	f.BoolVar(&o.drainOnly, "drain-only", false, "read no source: ship what the spool holds, and end; exit code 3 when not all of it went out within --drain-timeout")
	f.StringVar(&o.state, "state", "", "remember in this file how far the source was read: with --follow the file (default SPOOL/source), of the kernel the last serial (default "+daemonState+", or none)")
	f.StringVar(&o.remote, "remote", "", "the collector, HOST[:PORT]; several, with commas, are tried in order")
	f.StringVar(&o.transport, "transport", "tcp", "how to ship: tcp (the audisp-remote protocol)")
	f.StringVar(&o.format, "format", "", "managed (acknowledged, the default) or ascii (lines, never acknowledged)")
	f.IntVar(&o.window, "window", 0, "records in flight at once; 1 waits for each acknowledgement (default 4096)")
	f.StringVar(&o.node, "node", "", "name of this host in node=; wins over name_format")
	f.StringVar(&o.config, "config", "", "auditd.conf (default "+auditdConf+" for the kernel source, if it is there)")
	f.StringVar(&o.remoteConfig, "remote-config", "", "audisp-remote.conf")
	f.StringVar(&o.spoolDir, "spool", defaultSpool, "folder of the spool")
	f.StringVar(&o.spoolSize, "spool-size", "1G", "bound of the spool, in bytes or with K, M, G")
	f.StringVar(&o.spoolFull, "spool-full", "", "what a full spool does: drop-oldest (the default for kernel and multicast), or refuse: make stdin or a file wait (their default), drop the kernel's newest records")
	f.DurationVar(&o.probe, "probe-interval", ship.DefaultProbe, "with several servers: how often those before the present one are tried")
	f.StringVar(&o.logFile, "log-file", "", "the local log; wins over log_file; none: no local log")
	f.StringVar(&o.http, "http", "", "address for /metrics and /healthz, such as 127.0.0.1:8061 (default off)")
	f.StringVar(&o.kernelState, "kernel-state", "enable", "what to do with the kernel's enabled flag at the start: enable, nochange, disable")
	f.StringVar(&o.receiveBuffer, "receive-buffer", "64M", "receive buffer of the kernel's socket")
	f.StringVar(&o.queue, "queue", "8M", "memory for records between the kernel's reader and the disk")
	f.DurationVar(&o.drain, "drain-timeout", 30*time.Second, "how long to wait for acknowledgements at the end of the input")
	f.DurationVar(&o.shutdown, "shutdown-timeout", 5*time.Second, "how long to go on shipping when told to end")
	f.BoolVar(&o.allowHalt, "allow-halt", false, "let the actions single and halt of auditd.conf and audisp-remote.conf do what they say")
	f.StringVar(&o.report, "report", "", "the state report of SIGCONT (default "+daemonReport+" for the kernel source, "+otherReport+" otherwise)")
	f.StringVar(&o.pidFile, "pid-file", "", "file for the process id, or none (default "+daemonPID+" for the kernel source, none otherwise)")
	f.BoolVar(&o.plugin, "plugin", false, "standard input is a dispatcher's, which starts us again (found out by itself under auditd): at its end what is spooled stays for the next start at once, and a spool that the instance before still has is waited for")
	f.StringVar(&o.options, "options", "", "file with any of these flags, as keys in the stock grammar: spool_full = drop-oldest; the command line goes before it")
	f.StringVar(&o.logLevel, "log-level", "info", "trace, debug, info, warn or error")
	completion.Flags(cmd, runWords)
	return cmd
}

// runWords are what can stand behind the flags.
var runWords = map[string]option.Words{
	"source":        {List: option.These(agent.SourceKernel, agent.SourceMulticast, agent.SourceStdin).List, Files: true},
	"transport":     option.These("tcp"),
	"format":        option.These(string(conf.FormatManaged), string(conf.FormatASCII)),
	"spool-full":    option.These(spoolDropOldest, spoolRefuse),
	"kernel-state":  option.These("enable", "nochange", "disable"),
	"log-level":     option.These("trace", "debug", "info", "warn", "error"),
	"config":        option.Files,
	"remote-config": option.Files,
	"state":         option.Files,
	"report":        option.Files,
	"options":       option.Files,
	"log-file":      {List: option.These(none).List, Files: true},
	"pid-file":      {List: option.These(none).List, Files: true},
	"spool":         option.Folders,
}

func isLeft(err error) bool { return errors.Is(err, agent.ErrLeft) }

// run resolves flags and files, and works until the end.
func (o *runFlags) run(ctx context.Context, given func(string) bool, std Stdio, version string) error {
	level := hclog.LevelFromString(o.logLevel)
	if level == hclog.NoLevel {
		return &usageError{fmt.Errorf("--log-level: %q is none of trace, debug, info, warn, error", o.logLevel)}
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: "forwarder", Level: level, Output: terminal.GuardLog(std.Err)})
	cfg, err := o.resolve(ctx, given, logger)
	if err != nil {
		return err
	}
	cfg.Stdin, cfg.Version = std.In, version
	var status io.Writer
	if o.drainOnly || o.fromFile() && !o.follow {
		status = std.Err
	}
	o.sayOptions(logger)
	return runAgent(ctx, cfg, status, std.signals)
}

// limitRuntime keeps us small on a host that has other things to do, unless its
// administrator said otherwise with GOMEMLIMIT, GOGC or GOMAXPROCS: two cores are
// more than a pump and a sender need.
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

// memoryLimit is what the collector of garbage may let the heap grow to: some
// megabytes that are always in use, as much again, and what the queues may hold
// when something hangs. It must be more than is in use then, or collecting takes
// all the time there is.
func memoryLimit(cfg *agent.Config) int64 {
	const always, plugin = 16 << 20, 8 << 20
	limit := int64(always)
	if cfg.Source == agent.SourceKernel || cfg.Source == agent.SourceMulticast {
		limit += int64(cfg.Kernel.QueueBytes)
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
