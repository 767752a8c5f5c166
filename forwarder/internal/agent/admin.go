package agent

import (
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Rotate starts a new local log, as the stock daemon does on SIGUSR1.
func (a *Agent) Rotate() {
	a.do(func() {
		if a.log == nil {
			return
		}
		if err := a.log.Rotate(); err != nil {
			a.cfg.Logger.Error("the local log could not be rotated", "error", err)
			return
		}
		a.recordSignal(tables.DaemonRotate, "rotate-logs")
	})
}

// Resume ends suspensions of the local log and of shipping, as on SIGUSR2.
func (a *Agent) Resume() {
	a.do(func() {
		if a.log != nil {
			a.log.Resume()
		}
		if a.sender != nil {
			a.sender.Resume()
		}
		a.recordSignal(tables.DaemonResume, "resume-logging")
	})
}

// recordSignal records what an administrator's signal did, when we are the
// host's audit daemon: a plugin adds nothing to the stream.
func (a *Agent) recordSignal(typ uint16, op string) {
	if a.cfg.Source != SourceKernel {
		return
	}
	sig, err := a.kernel.Control().SignalInfo()
	if err != nil {
		a.cfg.Logger.Warn("who sent the signal is not known", "error", err)
	}
	a.emit(a.own.bySignal(typ, op, sig))
}
