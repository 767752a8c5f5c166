package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/forwarder/internal/agent"
	"github.com/auditfleet/auditfleet/forwarder/internal/boot"
	"github.com/auditfleet/auditfleet/forwarder/internal/doctor"
	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/forwarder/internal/spool"
	"github.com/auditfleet/auditfleet/pkg/command"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
)

const (
	auditdConf = doctor.DefaultConfig
	remoteConf = "/etc/audit/audisp-remote.conf"
	// unitOptions is what auditfleet-forwarder.service names by --options.
	unitOptions = "/etc/auditfleet/forwarder.conf"
	// How long a record waits for a name, and how much of the time records may wait
	// for names in all.
	nameWait  = 250 * time.Millisecond
	nameShare = 0.1
)

// resolve makes the agent's configuration of flags and files; a flag wins.
func (o *runFlags) resolve(ctx context.Context, given func(string) bool, logger hclog.Logger) (agent.Config, error) {
	cfg := agent.Config{
		Source: o.source, Follow: o.follow, HTTP: o.http, Logger: logger,
		DrainTimeout: o.drain, ShutdownTimeout: o.shutdown,
		Names:  nss.New(nss.Config{Wait: nameWait, Share: nameShare, Warn: logger.Named("names").Warn}),
		Plugin: o.source == agent.SourceStdin && (o.plugin || underDispatcher()),
	}
	o.overlook(given, logger)
	cfg.Source, cfg.Follow = o.source, o.follow
	if err := o.check(); err != nil {
		return cfg, command.Wrong(err)
	}
	var err error
	if cfg.Kernel.Enable, err = kernel.ParseEnableMode(o.kernelState); err != nil {
		return cfg, command.Wrongf("--kernel-state: %w", err)
	}
	cfg.Kernel.ReceiveBuffer, cfg.Kernel.QueueBytes = o.receiveBuffer, o.queue
	cfg.Spool.Dir, cfg.Spool.MaxBytes = o.spoolDir, o.spoolSize
	if cfg.DropLines = o.spoolFull == spoolDropOldest; o.spoolFull == spoolRefuse {
		cfg.Spool.Full = spool.RefuseInput
	}
	if err := o.reloadable(ctx, &cfg, given, logger); err != nil {
		return cfg, err
	}
	cfg.Reload = func(ctx context.Context) (agent.Changed, error) {
		next := agent.Config{Source: o.source, Names: cfg.Names}
		err := o.reloadable(ctx, &next, given, logger)
		return agent.Changed{
			Node: next.Node, Log: next.Log, Actions: next.Actions, Plugins: next.Plugins, Enrich: next.Enrich,
			ReportEvery: next.ReportEvery, PriorityBoost: next.PriorityBoost, Ship: next.Ship, Remote: next.Remote,
			Full: next.Kernel.Full,
		}, err
	}
	if cfg.Report = o.report; o.report == "" {
		cfg.Report = otherReport
		if o.source == agent.SourceKernel {
			cfg.Report = daemonReport
		}
	}
	switch {
	case o.pidFile == "" && o.source == agent.SourceKernel:
		cfg.PIDFile = daemonPID
	case o.pidFile != none:
		cfg.PIDFile = o.pidFile
	}
	if cfg.Ship != nil && cfg.Plugins != nil {
		for _, p := range cfg.Plugins.Plugins {
			if p.Active && filepath.Base(p.Path) == "audisp-remote" {
				logger.Warn("a plugin ships records too: every record may arrive twice", "plugin", p.Name, "path", p.Path)
			}
		}
	}
	cfg.AliveEvery = o.alive
	if o.source == agent.SourceKernel || o.source == agent.SourceMulticast {
		cfg.Boot = boot.Notes{Path: boot.DefaultNote}
	}
	switch {
	case o.state == none && !o.follow:
	case o.state != "":
		cfg.StateFile = o.state
	case o.follow && cfg.Ship != nil:
		cfg.StateFile = filepath.Join(o.spoolDir, "source")
	case o.source == agent.SourceKernel:
		cfg.StateFile, cfg.StateUnnamed = daemonState, true
	}
	return cfg, nil
}

// reloadable fills in what auditd.conf, audisp-remote.conf and the plugins' files
// say: at the start and again on SIGHUP.
func (o *runFlags) reloadable(ctx context.Context, cfg *agent.Config, given func(string) bool, logger hclog.Logger) error {
	ac, f, err := o.auditd(given, logger)
	if err != nil {
		return err
	}
	if err := o.localLog(cfg, ac, logger); err != nil {
		return err
	}
	if err := o.actions(ctx, cfg, ac, f, logger); err != nil {
		return err
	}
	if err := o.shipping(cfg, given, logger); err != nil {
		return err
	}
	o.plugins(cfg, ac, logger)
	cfg.Node, err = o.nodeName(ctx, given, ac)
	cfg.ReportEvery = ac.ReportInterval
	if ac.LogFormat == conf.LogEnriched {
		cfg.Enrich = interpret.New(interpret.Config{Names: cfg.Names}).AppendEnriched
	}
	if o.source == agent.SourceKernel {
		cfg.PriorityBoost = ac.PriorityBoost
	}
	cfg.Kernel.Full = o.queueFull(ac, f, logger)
	return err
}

// fromFile says whether the source is a file.
func (o *runFlags) fromFile() bool {
	return o.source != agent.SourceKernel && o.source != agent.SourceMulticast && o.source != agent.SourceStdin
}

// overlook warns of flags that have no effect with this source, and resets them: a unit
// or script that is written for several sources must start with each of them.
func (o *runFlags) overlook(given func(string) bool, logger hclog.Logger) {
	if o.drainOnly {
		o.source = agent.SourceNone
	}
	if o.follow && (o.drainOnly || !o.fromFile()) {
		logger.Warn("--follow has no effect: only a file ends, and can be followed", "source", o.source)
		o.follow = false
	}
	if o.drainOnly && given("source") {
		logger.Warn("--source has no effect with --drain-only")
	}
	if o.state != "" && o.state != none && !o.follow && (o.fromFile() || o.source == agent.SourceStdin) {
		logger.Warn("--state has no effect: there is a place to remember only with --follow, or the kernel source", "source", o.source)
		o.state = ""
	}
}

// listenable reports whether something is an address with a port. Whether the address is this
// machine's, and free, is known only when it is taken.
func listenable(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err == nil
}

// check refuses flags that make no sense together.
func (o *runFlags) check() error {
	switch {
	case o.source == "":
		return errors.New("--source: empty: want kernel, multicast, stdin or a file")
	case o.drainOnly && o.remote == "" && o.remoteConfig == "":
		return errors.New("--drain-only: --remote or --remote-config is needed: where is the spool to go?")
	case o.plugin && o.source != agent.SourceStdin:
		return errors.New("--plugin: only with --source stdin, where a dispatcher's records come")
	case o.spoolDir == "":
		return errors.New("--spool: empty")
	case o.http != "" && !listenable(o.http):
		return fmt.Errorf("--http: %q: want ADDRESS:PORT or :PORT", o.http)
	case o.source != agent.SourceKernel && o.remote == "" && o.remoteConfig == "" && (o.logFile == "" || o.logFile == "none"):
		return fmt.Errorf("--remote: needed with --source %s: where are its records to go?", o.source)
	}
	return nil
}
