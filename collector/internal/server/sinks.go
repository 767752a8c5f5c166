package server

import (
	"path/filepath"

	"github.com/auditfleet/auditfleet/collector/internal/sink"
	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// sinksDir is the folder of what waits for sinks, in the store's.
const sinksDir = "sinks"

// openSinks begins to deliver what waits for sinks from the time before.
func (s *Server) openSinks() {
	s.sinks = sink.Open(s.cfg.Sinks, sink.Options{
		FS: fsys.OS, Dir: filepath.Join(s.cfg.Store, sinksDir), Node: s.cfg.Node, Log: s.cfg.Log.Named("sinks"), Now: s.cfg.Now,
		Dropped: func(name, reason string, notices int) {
			s.own.Add("DAEMON_ERR", "op=alert-dropped sink=%s notices=%d reason=%s res=failed", name, notices, reason)
		},
	})
}

// sinkSamples yields the numbers of each sink.
func (s *Server) sinkSamples(yield func(metrics.SinkSample)) {
	for _, st := range s.sinks.Status() {
		m := metrics.SinkSample{
			Sink: st.Name, Queued: st.Queued, Delivered: st.Delivered, Failed: st.Failed,
			Full: st.Dropped[sink.DroppedFull], Refused: st.Dropped[sink.DroppedRefused], Up: st.Failing.IsZero(),
		}
		if !st.LastSuccess.IsZero() {
			m.LastSuccess = float64(st.LastSuccess.UnixMilli()) / 1000
		}
		yield(m)
	}
}
