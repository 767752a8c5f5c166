package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/built"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/completion"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/service"
	"github.com/auditfleet/auditfleet/pkg/settings"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

func (p *program) serveCommand() *cobra.Command {
	table := newOptions().table()
	cmd := &cobra.Command{
		Use:   "serve [--config FILE] [--store FOLDER] [--listen ADDR:PORT]",
		Short: "Receive records, store them and answer queries",
		Long: "serve receives audit records (the audisp-remote protocol, from our forwarders and stock audisp-remote\n" +
			"alike), acknowledges what is stored, and answers queries on a unix socket.\n\n" +
			"--config takes auditd.conf's grammar and keys and ours; collector.conf(5) has them all, with what they mean\n" +
			"and which of the stock keys a collector acts on. A flag goes before the file.\n\n" +
			"While less than space_left is free, acknowledgements are DISKLOW; the action rotate drops the oldest sealed\n" +
			"day. With only disk_reserve left, records are refused with DISKFULL, until there is space again. After an\n" +
			"action of suspend they are refused with DISKERROR until SIGUSR2. single and halt need --allow-halt.\n\n" +
			"SIGTERM or SIGINT stops in good order, a second one at once. SIGHUP reads the file again: limits, space,\n" +
			"retention, names and plugins, and says which other keys have changed. SIGUSR1 seals the partition that is written and begins another one of the day,\n" +
			"SIGUSR2 resumes after a suspension, SIGCONT writes a state report to STORE/" + server.StateFile + ".\n\n" +
			"Garbage is collected early from 272 MiB of memory on; GOMEMLIMIT in the environment sets another figure.",
		Args: command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.serve(cmd.Context(), cmd.Flags())
		},
	}
	cmd.Flags().SortFlags = false
	table.AddFlags(cmd.Flags())
	completion.Flags(cmd, table.Words())
	return cmd
}

// serve runs a collector until a signal ends it.
func (p *program) serve(ctx context.Context, flags *pflag.FlagSet) error {
	o, f, err := configure(flags)
	if err != nil {
		return command.Refused(err)
	}
	cfg := o.server
	cfg.Log = o.logger(p.stdio.Err)
	cfg.Version, cfg.Commit, cfg.CoverageJSON = p.version, built.Commit(), evidenceCoverage
	warnOfFile(cfg.Log, f, o.table())
	placed := func(err error) error { return settings.Placed(err, f, o.table(), flags.Changed) }
	if o.check {
		if err := server.Check(cfg); err != nil {
			return command.Refused(placed(err))
		}
		fmt.Fprintln(p.stdio.Out, "collector: the configuration is right")
		return nil
	}
	if cfg.Service, err = service.Find(); err != nil {
		cfg.Log.Warn("the service manager", "error", err)
	}
	ctx, hurry, stop := p.signals(ctx, cfg.Log)
	defer stop()
	admin := make(chan os.Signal, 8) // made before Open, so that none of them ends a collector that is starting
	signal.Notify(admin, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCONT)
	defer signal.Stop(admin)
	limitMemory()
	cfg.Stop = ctx.Done()
	s, err := server.Open(cfg)
	if errors.Is(err, server.ErrStopped) {
		cfg.Log.Info("stopped while it was starting", "why", err)
		return nil
	}
	if err != nil {
		if err = placed(err); errors.Is(err, server.ErrRefused) {
			err = command.Refused(err)
		}
		return err
	}
	stopAdmin := onSignals(admin, &administered{s: s, flags: flags, log: cfg.Log, began: o, service: cfg.Service})
	defer stopAdmin()
	err = s.Run(ctx, hurry)
	if errors.Is(err, server.ErrInterrupted) {
		return fmt.Errorf("stop: %w", err)
	}
	return errors.Join(err, s.Close())
}

// logger returns the logger that the settings ask for.
func (o *options) logger(to io.Writer) hclog.Logger {
	if !o.logJSON { // the guard's octal escapes are not JSON
		to = terminal.GuardLog(to)
	}
	return hclog.New(&hclog.LoggerOptions{Name: "collector", Output: to, Level: hclog.LevelFromString(o.server.LogLevel), JSONFormat: o.logJSON})
}

// softMemory is the size of the process from which on Go's garbage collector runs more
// often. A collector with 1,000 busy senders has less than that in use: two tables of
// events, the hashes that tell resends, and what queries keep unpacked. By itself Go would
// let the heap grow to twice what is in use.
const softMemory = 272 << 20

// limitMemory sets softMemory, unless the administrator has set GOMEMLIMIT. That bounds
// nothing: a process that uses more goes on.
func limitMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
}

// warnOfFile logs the warnings of a configuration file, and the keys in it that have no
// effect. f is nil where there is no file.
func warnOfFile(log hclog.Logger, f *conf.File, table settings.Table) {
	if f == nil {
		return
	}
	for _, w := range f.Warnings {
		log.Warn(w.Error())
	}
	if strings.EqualFold(f.Value("use_libwrap"), "yes") {
		log.Warn("use_libwrap = yes: /etc/hosts.allow and /etc/hosts.deny are not read here; let a firewall decide who may connect", "file", f.Path)
	}
	if set := table.Idle(f); len(set) > 0 {
		log.Warn("keys of the configuration that have no effect on a collector of this version", "file", f.Path, "keys", strings.Join(set, " "))
	}
}

// signals returns a context that ends with the first SIGTERM or SIGINT, and one that ends with
// the second. stop ends the goroutine and both contexts.
func (p *program) signals(ctx context.Context, log hclog.Logger) (first, second context.Context, stop func()) {
	first, cancelFirst := context.WithCancel(ctx)
	second, cancelSecond := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case sig := <-ch:
				if first.Err() == nil {
					log.Info("told to stop", "signal", sig)
					cancelFirst()
					continue
				}
				log.Warn("told to stop at once", "signal", sig)
				cancelSecond()
			case <-done:
				return
			}
		}
	}()
	return first, second, func() {
		signal.Stop(ch)
		close(done)
		<-ended
		cancelFirst()
		cancelSecond()
	}
}

// rotateTime bounds how long a rotation asked for by signal may take.
const rotateTime = time.Minute

// onSignals carries out an administrator's signals from ch, one after the other, in a
// goroutine. stop cancels what that goroutine is doing, and waits for it to end.
func onSignals(ch <-chan os.Signal, a *administered) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case sig := <-ch:
				a.obey(ctx, sig)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// administered is a running collector, with what it takes to carry out signals.
type administered struct {
	s     *server.Server
	flags *pflag.FlagSet
	log   hclog.Logger
	began *options // the settings that it was started with
	// service is told of reloads.
	service *service.Manager
}

// obey carries out a signal and logs the outcome.
func (a *administered) obey(ctx context.Context, sig os.Signal) {
	s, log := a.s, a.log
	switch sig {
	case syscall.SIGHUP:
		// A file that is wrong changes nothing and is reported.
		a.service.Reloading()
		waiting, err := a.reload()
		a.service.Reloaded(err)
		if err != nil {
			log.Error("the configuration was not read again; all stays as it was", "error", err)
			return
		}
		log.Info("the configuration was read again", "file", a.began.file)
		if len(waiting) > 0 {
			log.Warn("keys that have changed take effect at the next start only", "file", a.began.file, "keys", strings.Join(waiting, " "))
		}
	case syscall.SIGUSR1:
		ctx, cancel := context.WithTimeout(ctx, rotateTime)
		defer cancel()
		if err := s.Rotate(ctx); err != nil {
			log.Error("told to rotate", "error", err)
			return
		}
		log.Info("rotated: what comes now goes to another partition")
	case syscall.SIGUSR2:
		log.Info("told to resume", "was_suspended", s.Resume())
	case syscall.SIGCONT:
		path, err := s.Report()
		if err != nil {
			log.Error("told to report the state", "error", err)
			return
		}
		log.Info("wrote a state report", "file", path)
	}
}
