package server

import (
	"github.com/auditfleet/auditfleet/collector/internal/fanout"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/dispatch"
	"github.com/auditfleet/auditfleet/pkg/syslog"
)

// Plugins is distribute_network and what plugins.d has.
type Plugins struct {
	dispatch.Settings
	List []conf.Plugin // none without distribute_network
	// Problem is what is wrong with other files of plugins.d: it is said, and those
	// in List run all the same.
	Problem error
}

// openPlugins starts the plugins there are, which check has looked at; more may come with Reconfigure.
func (s *Server) openPlugins() error {
	s.sayPlugins(&s.cfg.Plugins)
	f, err := fanout.Open(dispatch.Config{
		Settings: s.cfg.Plugins.Settings, Plugins: s.cfg.Plugins.List,
		Escalate: func(do conf.Do, why string) {
			s.action.Do(conf.Action{Do: do}, action.Message{Condition: overflowKey, Subject: "an audit plugin's queue is full", Text: why, Level: syslog.Alert})
		},
		Syslog: func(m string) { s.action.Syslog(syslog.Warning, m) },
		Logger: s.cfg.Log.Named("plugins"), Now: s.cfg.Now,
	})
	if err != nil {
		return err
	}
	s.fanout = f
	return nil
}

const overflowKey = "overflow_action"

func (s *Server) checkPlugins(p *Plugins) error {
	return s.action.Check(overflowKey, conf.Action{Do: p.Overflow})
}

func (s *Server) sayPlugins(p *Plugins) {
	if p.Problem != nil {
		s.cfg.Log.Error("not all plugins can be used", "error", p.Problem)
	}
}
