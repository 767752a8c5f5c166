package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/collector/internal/server"
	"github.com/auditfleet/auditfleet/pkg/conf"
)

func (p *program) serveCommand() *cobra.Command {
	o := defaultOptions()
	var file string
	cmd := &cobra.Command{
		Use:   "serve [--config FILE] [--store DIR] [--listen ADDR:PORT]",
		Short: "Receive records, store them and answer queries",
		Long: "serve receives audit records (the audisp-remote protocol, from our forwarders and stock audisp-remote\n" +
			"alike), acknowledges what is stored, and answers queries on a unix socket.\n\n" +
			"--config takes auditd.conf's grammar and keys (tcp_listen_port, tcp_max_per_addr, tcp_client_max_idle,\n" +
			"flush, ...) and ours: store, listen, api, api_group, http, node, max_connections, frame_timeout,\n" +
			"drain_timeout, max_in_flight, max_hosts, metric_hosts, log_level. A flag goes before the file.\n\n" +
			"SIGTERM or SIGINT stops in good order, a second one at once; SIGHUP reads the limits on connections\n" +
			"from the file again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.serve(cmd.Context(), o, file, cmd.Flags())
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&file, "config", "", "configuration file, in auditd.conf's grammar")
	o.addFlags(cmd.Flags())
	return cmd
}

func (p *program) serve(ctx context.Context, o *options, file string, flags *pflag.FlagSet) error {
	f, err := o.load(file, flags)
	if err != nil {
		return err
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	level := hclog.LevelFromString(o.logLevel)
	if level == hclog.NoLevel {
		return fmt.Errorf("--log-level %s: it is error, warn, info or debug", o.logLevel)
	}
	cfg.Log = hclog.New(&hclog.LoggerOptions{Name: "collector", Output: p.stdio.Err, Level: level, JSONFormat: o.logJSON})
	cfg.Version = p.version
	cfg.Notify = server.Notifier(os.Getenv)
	sayFile(cfg.Log, f)

	ctx, hurry, stop := p.signals(ctx, cfg.Log)
	defer stop()
	s, err := server.Open(cfg)
	if err != nil {
		return err
	}
	stopReload := reloadOnHangup(s, file, flags, cfg.Log)
	defer stopReload()
	err = s.Run(ctx, hurry)
	if errors.Is(err, server.ErrInterrupted) {
		return fmt.Errorf("stop: %w", err)
	}
	return errors.Join(err, s.Close())
}

// sayFile logs what a configuration file has that deserves a word.
func sayFile(log hclog.Logger, f *conf.File) {
	if f == nil {
		return
	}
	for _, w := range f.Warnings {
		log.Warn(w.Error())
	}
	if set := withoutEffect(f); len(set) > 0 {
		log.Warn("keys of the configuration that have no effect on a collector of this version", "file", f.Path, "keys", strings.Join(set, " "))
	}
}

// signals returns a context that ends with the first SIGTERM or SIGINT, and one
// that ends with the second.
func (p *program) signals(ctx context.Context, log hclog.Logger) (first, second context.Context, stop func()) {
	first, cancelFirst := context.WithCancel(ctx)
	second, cancelSecond := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case sig := <-ch:
				switch {
				case sig == syscall.SIGUSR1 || sig == syscall.SIGUSR2:
					log.Warn("the signal has no effect in this version", "signal", sig)
				case first.Err() == nil:
					log.Info("told to stop", "signal", sig)
					cancelFirst()
				default:
					log.Warn("told to stop at once", "signal", sig)
					cancelSecond()
				}
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

// reloadOnHangup reads the limits anew at SIGHUP. A file that is wrong changes
// nothing and is reported.
func reloadOnHangup(s *server.Server, file string, flags *pflag.FlagSet, log hclog.Logger) (stop func()) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ch:
				if err := reload(s, file, flags); err != nil {
					log.Error("the configuration was not read again; all stays as it was", "error", err)
					continue
				}
				log.Info("the limits on connections were read again", "file", file)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(done)
		<-ended
	}
}

func reload(s *server.Server, file string, flags *pflag.FlagSet) error {
	o := defaultOptions()
	again := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(again)
	var setErr error
	flags.Visit(func(f *pflag.Flag) {
		if again.Lookup(f.Name) != nil && setErr == nil {
			setErr = copyFlag(again, f)
		}
	})
	if setErr != nil {
		return setErr
	}
	if _, err := o.load(file, again); err != nil {
		return err
	}
	limits, err := o.limits()
	if err != nil {
		return err
	}
	return s.SetLimits(limits)
}

// copyFlag gives a flag of another set the same value.
func copyFlag(to *pflag.FlagSet, f *pflag.Flag) error {
	if slice, ok := f.Value.(pflag.SliceValue); ok {
		return to.Set(f.Name, strings.Join(slice.GetSlice(), ","))
	}
	return to.Set(f.Name, f.Value.String())
}
