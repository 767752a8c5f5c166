package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/auditfleet/auditfleet/collector/internal/alert"
	"github.com/auditfleet/auditfleet/collector/internal/api"
	"github.com/auditfleet/auditfleet/collector/internal/intake"
	"github.com/auditfleet/auditfleet/collector/internal/seal"
	"github.com/auditfleet/auditfleet/collector/internal/store/engine"
	"github.com/auditfleet/auditfleet/collector/internal/trusted"
	"github.com/auditfleet/auditfleet/pkg/action"
	"github.com/auditfleet/auditfleet/pkg/conf"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// Check says what Open would refuse in a configuration and in the files that it names: it
// opens no store, binds nothing, and makes nothing.
func Check(cfg Config) error {
	if err := cfg.defaults(); err != nil {
		return err
	}
	s := &Server{cfg: cfg, started: cfg.Now(), reg: metrics.New()}
	_, _, err := s.check()
	return errors.Join(err, cfg.Plugins.Problem, cfg.Sinks.Problem, cfg.Sinks.CheckFiles(), s.action.Close())
}

// check reads what the configuration names and checks all that can be checked before
// anything is made.
func (s *Server) check() (*intake.Names, *trusted.Senders, error) {
	s.action = action.New(s.cfg.action())
	names, trust, err := s.checkChangeable(&s.cfg)
	if err != nil {
		return nil, nil, err
	}
	if _, err := api.Check(s.cfg.API, s.cfg.APIGroup); err != nil {
		return nil, nil, err
	}
	if err := s.checkSeal(); err != nil {
		return nil, nil, err
	}
	return names, trust, s.openTrust()
}

// checkChangeable checks what may change while the collector runs, and reads the files that it names.
func (s *Server) checkChangeable(cfg *Config) (names *intake.Names, trust *trusted.Senders, err error) {
	if err := cfg.Space.Check(s.action); err != nil {
		return nil, nil, err
	}
	if cfg.Plugins.Overflow == "" {
		cfg.Plugins.Overflow = conf.DoSyslog
	}
	if err := s.checkPlugins(&cfg.Plugins); err != nil {
		return nil, nil, err
	}
	if len(cfg.Retention.Rules) > 0 && !cfg.Compact && !s.elsewhere() {
		return nil, nil, errors.New("retain divides days by compaction, and compact is no: set compact = yes, or remove the lines of retain")
	}
	if err := alert.Check(cfg.Alerts); err != nil {
		return nil, nil, err
	}
	if names, err = intake.ReadNames(cfg.HostsFile); err != nil {
		return nil, nil, err
	}
	trust, err = readTrusted(cfg)
	return names, trust, err
}

// elsewhere reports whether a cluster has the events: they are divided as they are stored there.
func (s *Server) elsewhere() bool {
	at, err := engine.Elsewhere(s.cfg.Store)
	return s.cfg.cluster != "" || err == nil && at != ""
}

// checkSeal looks at the key that signs the log; that there is none is no error.
func (s *Server) checkSeal() error {
	if s.cfg.SealKey == "" {
		return nil
	}
	if _, _, err := seal.ReadKey(s.cfg.SealKey); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("seal_key: %w", err)
	}
	return nil
}

// bind takes every address, which nobody can connect to before Run.
func (s *Server) bind() error {
	for _, f := range []func() error{s.bindText, s.listenVerified, s.openHTTP} {
		if err := f(); err != nil {
			return err
		}
	}
	if s.apiInStore() { // whose folder may not be there yet
		return nil
	}
	return s.listenAPI()
}

// exists reports whether there is something in the place of a store.
func exists(dir string) bool {
	names, err := os.ReadDir(dir)
	return err != nil && !errors.Is(err, fs.ErrNotExist) || len(names) > 0
}
