package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/pkg/service"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// catchSignals directs the signals of a daemon into a channel. It is called before
// anything else: a signal that comes while files are read must not end the program, a HUP
// least of all.
func catchSignals() chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGCONT)
	return signals
}

// isDaemon reports whether a command line is that of a daemon: of run, by whatever name.
func isDaemon(name string, args []string) bool {
	switch name {
	case "auditd", "audisp-remote":
		return true
	case "auditctl", "augenrules", "autrace", "ausearch", "aureport":
		return false
	}
	return len(args) == 0 || args[0] == "run" || strings.HasPrefix(args[0], "-")
}

// errHanging is returned when the program did not end even after a second signal.
var errHanging = errors.New("ended with the local log or the spool hanging: what was not synced may be lost")

// runAgent runs an agent under the process' signals. On status, where it is a
// terminal, it shows how far the source is.
func runAgent(ctx context.Context, cfg agent.Config, status io.Writer, signals chan os.Signal) error {
	if signals == nil {
		signals = catchSignals()
		defer signal.Stop(signals)
	}
	limitRuntime(&cfg)
	soft, stop := context.WithCancel(ctx)
	defer stop()
	abort, kill := context.WithCancel(context.Background())
	defer kill()
	manager, err := service.Find()
	if err != nil {
		cfg.Logger.Warn("the service manager", "error", err)
	}
	started := manager.Starting("opening the spool and the source")
	a, err := openAgent(soft, stop, cfg, signals)
	started()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	if addr := a.HTTPAddr(); addr != "" {
		cfg.Logger.Info("metrics", "address", addr)
	}
	go func() { done <- a.Run(soft, abort) }()
	manager.Ready(working(&cfg))
	unwatch := manager.Watch(a.Turns)
	defer unwatch()
	unshow := terminal.Status(status, a.Status)
	defer unshow()
	var overdue <-chan time.Time
	for {
		select {
		case err := <-done:
			manager.Stopping()
			unwatch() // they read what Close closes
			unshow()
			return errors.Join(err, a.Close())
		case <-overdue:
			return errHanging
		case s := <-signals:
			switch s {
			case unix.SIGUSR1:
				go a.Rotate()
			case unix.SIGUSR2:
				go a.Resume()
			case unix.SIGHUP:
				go func() {
					manager.Reloading()
					manager.Reloaded(a.Reload(soft))
				}()
			case unix.SIGCONT:
				go a.Report()
			default:
				if soft.Err() != nil {
					cfg.Logger.Warn("ending at once")
					kill()
					// A goroutine that still runs hangs in a call of the disk's. The
					// kernel notices that its daemon is gone once the process is.
					overdue = time.After(2 * time.Second)
					break
				}
				cfg.Logger.Info("ending", "signal", s.String())
				manager.Stopping()
				stop()
			}
		}
	}
}

// working says for the service manager what an agent does.
func working(cfg *agent.Config) string {
	text := "records of " + cfg.Source
	if cfg.Log.Path != "" {
		text += " into " + cfg.Log.Path
	}
	if cfg.Ship != nil {
		text += ", shipped from " + cfg.Spool.Dir
	}
	return text
}

// openAgent opens the agent, which may have to wait for a spool, and listens to signals
// meanwhile. A signal to end is obeyed at once, others once the agent is open; a second
// signal to end does not wait for the agent.
func openAgent(ctx context.Context, stop func(), cfg agent.Config, signals chan os.Signal) (*agent.Agent, error) {
	type opened struct {
		a   *agent.Agent
		err error
	}
	result := make(chan opened, 1)
	go func() {
		a, err := agent.Open(ctx, cfg)
		result <- opened{a, err}
	}()
	var later []os.Signal
	for {
		select {
		case r := <-result:
			for _, s := range later {
				select {
				case signals <- s:
				default: // as many wait already
				}
			}
			return r.a, r.err
		case s := <-signals:
			switch {
			case s != unix.SIGTERM && s != unix.SIGINT:
				later = append(later, s)
			case ctx.Err() != nil:
				return nil, errHanging
			default:
				cfg.Logger.Info("ending", "signal", s.String())
				stop()
			}
		}
	}
}
