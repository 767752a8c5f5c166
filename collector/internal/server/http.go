package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/pkg/metrics"
)

// openHTTP binds the address of /metrics, /healthz and /readyz.
func (s *Server) openHTTP() error {
	if s.cfg.HTTP == "" {
		return nil
	}
	ln, err := net.Listen("tcp", s.cfg.HTTP)
	if err != nil {
		hint := "choose another --http"
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "another program holds it; choose another --http, or --http \"\" for none"
		}
		return fmt.Errorf("serve metrics on %s: %w: %s", s.cfg.HTTP, err, hint)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.reg.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.health()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.state()) })
	s.httpLn = ln
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return nil
}

// health is "ok" unless records can't be stored: a restart may help then.
// Starting and stopping are healthy, though not ready.
func (s *Server) health() string {
	if s.ready.Load() {
		return s.state()
	}
	return "ok"
}

func answer(w http.ResponseWriter, state string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if state != "ok" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, state)
}

func (s *Server) serveHTTP() {
	if s.http == nil {
		return
	}
	s.served.Add(1)
	go func() {
		defer s.served.Done()
		if err := s.http.Serve(s.httpLn); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("serving metrics ended", "error", err)
		}
	}()
}

func (s *Server) closeHTTP() {
	if s.http == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	_ = s.httpLn.Close() // when it was never served
}

// registerMetrics registers what journal, head and store count themselves.
func (s *Server) registerMetrics() {
	r := s.reg
	journalStat := func(name, help string, counter bool, f func() float64) {
		if counter {
			r.CounterFunc(name, help, f)
			return
		}
		r.GaugeFunc(name, help, f)
	}
	journalStat("auditfleet_collector_duplicates_total", "Records sent again that were stored already, dropped.", true,
		func() float64 { return float64(s.journal.Stats().Duplicates) })
	journalStat("auditfleet_collector_journal_commits_total", "Group commits of the journal.", true,
		func() float64 { return float64(s.journal.Stats().Commits) })
	journalStat("auditfleet_collector_journal_syncs_total", "Syncs of the journal.", true,
		func() float64 { return float64(s.journal.Stats().Syncs) })
	journalStat("auditfleet_collector_journal_queue_bytes", "Bytes submitted to the journal that the head has not taken.", false,
		func() float64 { return float64(s.journal.Stats().QueueBytes) })
	journalStat("auditfleet_collector_journal_disk_bytes", "Size of the journal on disk.", false,
		func() float64 { return float64(s.journal.Stats().DiskBytes) })
	r.CounterFunc("auditfleet_collector_events_total", "Events put together since the start, replayed ones included.",
		func() float64 { return float64(s.head.Stats().Events) })
	r.CounterFunc("auditfleet_collector_unparsable_records_total", "Records stored that have no readable header.",
		func() float64 { return float64(s.head.Stats().Unparsable) })
	r.CounterFunc("auditfleet_collector_store_failures_total", "Attempts to store events that failed; the events stay in journal and memory.",
		func() float64 { return float64(s.head.Stats().StoreFailures) })
	r.GaugeFunc("auditfleet_collector_open_events", "Events that are not complete yet.",
		func() float64 { return float64(s.head.Stats().OpenEvents) })
	r.GaugeFunc("auditfleet_collector_memory_events", "Complete events in memory, not in the store yet.",
		func() float64 { return float64(s.head.Stats().TableEvents) })
	r.GaugeFunc("auditfleet_collector_memory_bytes", "Memory of complete events that are not in the store yet.",
		func() float64 { return float64(s.head.Stats().TableBytes) })
	r.GaugeFunc("auditfleet_collector_hosts", "Hosts known.", func() float64 { return float64(s.head.Stats().Hosts) })
	r.Hosts(s.cfg.MetricHosts, func(yield func(metrics.HostSample)) {
		for _, h := range s.head.Hosts() {
			yield(metrics.HostSample{
				Host: h.Name, Records: h.Records, Bytes: h.Bytes, Duplicates: h.Duplicates,
				LastSeen: float64(h.Last.UnixMilli()) / 1000, LastEvent: float64(h.LastEventMs) / 1000,
			})
		}
	})
}
