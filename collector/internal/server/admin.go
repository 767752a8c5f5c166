package server

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/fsys"
)

// What an administrator asks for by signal. The stock daemon writes who sent it;
// without the kernel's help, which it has only as the machine's audit daemon,
// it writes -1, and so do we.

// StateFile is the name of the state report in the store's folder.
const StateFile = "collector.state"

// Reconfigure takes over what may change while the collector runs: limits on
// connections, on space, what is kept, and plugins.
func (s *Server) Reconfigure(cfg Config) (err error) {
	defer func() {
		s.own.Reconfigured(err != nil)
		s.reload.Read(err, s.cfg.Now())
	}()
	names, trust, err := s.checkChangeable(&cfg)
	if err != nil {
		return err
	}
	if err := s.reloadTrust(&cfg); err != nil {
		return err
	}
	s.cfg.GRPCPerAddr, s.cfg.MaxAnswer = cfg.GRPCPerAddr, cfg.MaxAnswer
	s.cfg.Proxies, s.cfg.TLSProxies = cfg.Proxies, cfg.TLSProxies
	if err := s.setLimits(cfg.Limits); err != nil {
		return err
	}
	s.sayPlugins(&cfg.Plugins)
	if err := s.fanout.Reload(cfg.Plugins.Settings, cfg.Plugins.List); err != nil {
		return err
	}
	if err := s.sinks.Reload(cfg.Sinks); err != nil {
		return err
	}
	s.intake.SetNames(names)
	s.head.SetMayName(mayName(trust))
	s.space.SetLimits(cfg.Space)
	s.divide(cfg.Retention) // before it: what is divided is known by name
	s.retention.SetLimits(cfg.Retention)
	return s.alerts.Reload(cfg.Alerts)
}

// NotReconfigured records that a new configuration was asked for and was wrong.
func (s *Server) NotReconfigured() {
	s.own.Reconfigured(true)
	s.reload.Refused()
}

// Rotate has everything that was acknowledged so far put into the partition that
// is written, which empties the journal, seals it, begins another one of that day,
// and has the retention looked at.
func (s *Server) Rotate(ctx context.Context) error {
	err := s.head.Flush(ctx)
	if err == nil {
		err = s.store.Rotate(ctx)
	}
	s.own.Rotated(err != nil)
	if err != nil {
		return fmt.Errorf("begin another partition: %w", err)
	}
	s.retention.Apply()
	return nil
}

// Resume ends a suspension of storing, and those of plugins. It says whether
// storing was suspended.
func (s *Server) Resume() bool {
	was := s.space.Resume()
	s.fanout.Resume()
	s.own.Resumed()
	return was
}

// Report writes the state report, and returns where.
func (s *Server) Report() (string, error) {
	path := s.cfg.StateFile
	if path == "" {
		path = filepath.Join(s.cfg.Store, StateFile)
	}
	if err := fsys.Replace(path, []byte(s.report()), 0o600, false); err != nil {
		return "", fmt.Errorf("write the state report: %w", err)
	}
	return path, nil
}

// report is the state for people, a line for each thing, in the stock daemon's
// words where it has them.
func (s *Server) report() string {
	var b strings.Builder
	line := func(key, format string, args ...any) { fmt.Fprintf(&b, key+" = "+format+"\n", args...) }
	yes := func(v bool) string {
		if v {
			return "yes"
		}
		return "no"
	}
	now := s.cfg.Now()
	j, h, sp := s.journal.Stats(), s.head.Stats(), s.space.Status()
	line("collector version", "%s", s.cfg.Version)
	line("current time", "%s", now.Format("01/02/06 15:04:05"))
	line("running since", "%s", s.started.Format("01/02/06 15:04:05"))
	line("state", "%s", s.condition())
	line("store", "%s", s.cfg.Store)
	line("flush", "%s", s.cfg.Flush)
	line("space left on partition", "%s", yes(!sp.Is[space.Full]))
	line("Logging partition free space", "%d MB", sp.Usage.Free>>20)
	line("space_left setting", "%d MB", sp.Limits.SpaceLeft.Of(sp.Usage.Total)>>20)
	line("admin_space_left setting", "%d MB", sp.Limits.AdminSpaceLeft.Of(sp.Usage.Total)>>20)
	line("disk_reserve setting", "%d MB", sp.Reserve>>20)
	line("logging suspended", "%s", yes(sp.Suspended))
	line("file system space action performed", "%s", yes(sp.Acted[space.Low]))
	line("admin space action performed", "%s", yes(sp.Acted[space.Admin]))
	line("disk error detected", "%s", yes(sp.Is[space.Error]))
	if st, err := s.store.Stats(context.Background()); err == nil {
		line("partitions stored", "%d", len(st.Parts))
		line("events stored", "%d", st.Events)
		line("partitions size", "%d KB", st.DiskBytes>>10)
		for _, c := range s.retention.Limits().ByClass(st.Parts, store.DayOf(s.cfg.Now())) {
			line("kept of "+c.Class, "%s: %d partitions, %d events, %d KB", c.Limit, c.Parts, c.Events, c.DiskBytes>>10)
		}
	}
	if what, _ := s.compaction.uncompacted(); what != "" {
		line("not compacted", "%s", what)
	}
	line("journal size", "%d KB", j.DiskBytes>>10)
	line("journal queue", "%d KB", j.QueueBytes>>10)
	line("events in memory", "%d", h.TableEvents)
	line("open events", "%d", h.OpenEvents)
	line("hosts", "%d", h.Hosts)
	line("records since start", "%d", j.Records)
	line("duplicates dropped", "%d", j.Duplicates)
	plugins := s.fanout.Stats()
	line("Number of active plugins", "%d", len(plugins))
	for _, p := range plugins {
		line("plugin "+p.Name, "%d records, %d dropped, %d queued, %d restarts, up %s", p.Delivered, p.Dropped, p.Queued, p.Restarts, yes(p.Up))
	}
	line("listening for network connections", "%s", yes(s.ready.Load()))
	line("active connections", "%d", s.connections())
	line("total connections", "%d", s.accepted())
	return b.String()
}
