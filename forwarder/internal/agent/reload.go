package agent

import (
	"sync/atomic"

	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// lastReload is what became of the last configuration that was read. Any goroutine may read it.
type lastReload struct {
	failed atomic.Bool
	good   atomic.Int64 // when one was taken over last, in ms
}

// reloaded notes how a reload ended; the start is one, too.
func (a *Agent) reloaded(err error) {
	a.reload.failed.Store(err != nil)
	if err == nil {
		a.reload.good.Store(a.cfg.Now().UnixMilli())
	}
}

func (a *Agent) configSample() metrics.ConfigSample {
	return metrics.ConfigSample{OK: !a.reload.failed.Load(), Last: float64(a.reload.good.Load()) / 1000}
}
