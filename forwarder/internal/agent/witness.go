package agent

import (
	"os"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel"
	"github.com/auditfleet/auditfleet/pkg/daemonrec"
	"github.com/auditfleet/auditfleet/pkg/metrics"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// witnessed makes records of what was found about collectors' logs since the last time. They go to the
// local log and to every collector: one that hides its own change cannot hide what others know.
func (a *Agent) witnessed() (records []kernel.Record) {
	if a.cfg.Witness == nil {
		return nil
	}
	for _, s := range a.cfg.Witness.Statements() {
		res := "success"
		if s.Alarm {
			res = "failed"
		}
		records = append(records, a.own.record(tables.DaemonErr, "%s auid=%s pid=%d res=%s", s.Words, daemonrec.ProcessID("self", "loginuid"), os.Getpid(), res))
	}
	return records
}

func (a *Agent) witnessSample() metrics.WitnessSample {
	c := a.cfg.Witness.Counts()
	return metrics.WitnessSample{Checkpoints: c.Checkpoints, Verified: c.Verified, Passed: c.Passed, Alarms: c.Alarms, Errors: c.Errors, Stores: c.Stores, Open: c.Open}
}
