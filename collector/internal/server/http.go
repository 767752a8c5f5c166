package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/head"
	"github.com/auditfleet/auditfleet/collector/internal/space"
	"github.com/auditfleet/auditfleet/collector/internal/store"
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
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.state(), s.degraded()...) })
	s.httpLn = ln
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	return nil
}

// health is "ok" unless storing fails: a restart may help then. Starting,
// stopping and a full disk are healthy, though not ready.
func (s *Server) health() string {
	if s.ready.Load() && !s.refusing() {
		return s.storage()
	}
	return "ok"
}

// degraded is what answers lack, a line each: parts of the store that were set aside
// or are missing. Records are taken all the same, so it takes nothing from being ready.
func (s *Server) degraded() (lines []string) {
	for _, err := range s.files.Broken() {
		lines = append(lines, "degraded: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return lines
}

func answer(w http.ResponseWriter, state string, more ...string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if state != "ok" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintln(w, strings.Join(append([]string{state}, more...), "\n"))
}

func (s *Server) serveHTTP() {
	if s.http == nil {
		return
	}
	s.served.Add(1)
	go func() {
		defer s.served.Done()
		if err := s.http.Serve(limitOpen(s.httpLn, httpConns)); err != nil && !errors.Is(err, http.ErrServerClosed) {
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
	journalStat("auditfleet_collector_journal_carried_records_total", "Records of open events written again, so that the journal could be trimmed.", true,
		func() float64 { return float64(s.journal.Stats().Carried) })
	journalStat("auditfleet_collector_resend_forgotten_total", "Senders' numberings and last records forgotten for want of memory: what these send again is stored twice.", true,
		func() float64 { return float64(s.journal.Stats().Forgotten) })
	journalStat("auditfleet_collector_resend_memory_bytes", "Memory of resend detection, at most 128 MiB.", false,
		func() float64 { return float64(s.journal.Stats().ResendBytes) })
	journalStat("auditfleet_collector_journal_limit_bytes", "Size beyond which the journal has outgrown what it has to hold: a fault of the store, or of the disk.", false,
		func() float64 { return float64(s.journalLimit()) })
	journalStat("auditfleet_collector_journal_outgrown", "1 while the journal is larger than that.", false, func() float64 {
		if s.journalExcess() > 0 {
			return 1
		}
		return 0
	})
	r.CounterFunc("auditfleet_collector_events_total", "Events put together since the start, replayed ones included.",
		func() float64 { return float64(s.head.Stats().Events) })
	r.CounterFunc("auditfleet_collector_unparsable_records_total", "Records stored that have no readable header.",
		func() float64 { return float64(s.head.Stats().Unparsable) })
	r.CounterFunc("auditfleet_collector_store_failures_total", "Attempts to store events that failed; the events stay in journal and memory.",
		func() float64 { return float64(s.head.Stats().StoreFailures) })
	reasons := map[string]head.Early{}
	for e := range head.NumEarly {
		reasons[e.String()] = e
	}
	r.CounterFuncs("auditfleet_collector_evicted_events_total", "Events stored before they were complete: they were open for too long, or too much was open; by the key of the limit.", "reason",
		slices.Sorted(maps.Keys(reasons)), func(reason string) float64 { return float64(s.head.Stats().Early[reasons[reason]]) })
	r.CounterFunc("auditfleet_collector_searches_behind_total", "Searches answered without some records acknowledged shortly before: the store took no events.",
		func() float64 { return float64(s.head.Stats().SearchesBehind) })
	r.CounterFunc("auditfleet_collector_mixed_records_total", "Records of hosts beyond max_hosts and max_new_names, stored together.",
		func() float64 { return float64(s.head.Stats().Mixed) })
	r.CounterFunc("auditfleet_collector_names_refused_total", "Times that a record's new name was not added to the hosts: its sender had added max_new_names that day.",
		func() float64 { return float64(s.head.Stats().NamesRefused) })
	r.CounterFunc("auditfleet_collector_address_changes_total", "Times that a host's name came from another address than before.",
		func() float64 { return float64(s.head.Stats().AddressChanges) })
	r.CounterFunc("auditfleet_collector_future_events_total", "Events with a time more than a day beyond their receipt: they are stored, and move no clock.",
		func() float64 { return float64(s.head.Stats().FarFuture) })
	r.GaugeFunc("auditfleet_collector_open_bytes", "Memory of events that are not complete yet.",
		func() float64 { return float64(s.head.Stats().OpenBytes) })
	r.GaugeFunc("auditfleet_collector_open_events", "Events that are not complete yet.",
		func() float64 { return float64(s.head.Stats().OpenEvents) })
	r.GaugeFunc("auditfleet_collector_memory_events", "Complete events in memory, not in the store yet.",
		func() float64 { return float64(s.head.Stats().TableEvents) })
	r.GaugeFunc("auditfleet_collector_memory_bytes", "Memory of complete events that are not in the store yet.",
		func() float64 { return float64(s.head.Stats().TableBytes) })
	r.GaugeFunc("auditfleet_collector_hosts", "Hosts known.", func() float64 { return float64(s.head.Stats().Hosts) })
	s.registerSpace()
	s.registerPlugins()
	r.Hosts(s.cfg.MetricHosts, func(yield func(metrics.HostSample)) {
		for _, h := range s.head.Hosts() {
			yield(metrics.HostSample{
				Host: h.Name, Records: h.Records, Bytes: h.Bytes, Duplicates: h.Duplicates,
				LastSeen: float64(h.Last.UnixMilli()) / 1000, LastEvent: float64(h.LastEventMs) / 1000,
			})
		}
	})
}

// registerSpace registers what is known of the disk and of what is stored.
func (s *Server) registerSpace() {
	r := s.reg
	flag := func(name, help string, f func(st *space.Status) bool) {
		r.GaugeFunc(name, help, func() float64 {
			if st := s.space.Status(); f(&st) {
				return 1
			}
			return 0
		})
	}
	r.GaugeFunc("auditfleet_collector_disk_free_bytes", "Free space on the disk of the store.",
		func() float64 { return float64(s.space.Status().Usage.Free) })
	r.GaugeFunc("auditfleet_collector_disk_size_bytes", "Size of the disk of the store.",
		func() float64 { return float64(s.space.Status().Usage.Total) })
	r.GaugeFunc("auditfleet_collector_disk_reserve_bytes", "Free space below which records are refused (disk_reserve).",
		func() float64 { return float64(s.space.Status().Reserve) })
	flag("auditfleet_collector_space_low", "1 while less than space_left is free: acknowledgements are DISKLOW.",
		func(st *space.Status) bool { return st.Is[space.Low] })
	flag("auditfleet_collector_space_very_low", "1 while less than admin_space_left is free.",
		func(st *space.Status) bool { return st.Is[space.Admin] })
	flag("auditfleet_collector_disk_full", "1 while records are refused for want of space.",
		func(st *space.Status) bool { return st.Is[space.Full] })
	flag("auditfleet_collector_disk_failing", "1 while writes to the disk fail.",
		func(st *space.Status) bool { return st.Is[space.Error] })
	r.GaugeFunc("auditfleet_collector_clock_doubted", "1 while max_days does not count from the clock's day: that is far beyond the last stored one.", func() float64 {
		if s.clockDoubted.Load() {
			return 1
		}
		return 0
	})
	flag("auditfleet_collector_suspended", "1 while storing is suspended by an action.",
		func(st *space.Status) bool { return st.Suspended })
	keys := map[string]space.Condition{
		"space_left_action": space.Low, "admin_space_left_action": space.Admin,
		"disk_full_action": space.Full, "disk_error_action": space.Error,
	}
	r.CounterFuncs("auditfleet_collector_space_actions_total", "Actions done about the disk, by the key that asks for them.", "key",
		slices.Sorted(maps.Keys(keys)), func(key string) float64 { return float64(s.space.Status().Actions[keys[key]]) })
	r.GaugeFunc("auditfleet_collector_store_missing", "Parts of the store that answers lack: set aside as damaged or as another store's, or missing. /readyz and collector verify name them.",
		func() float64 { return float64(len(s.files.Broken())) })
	stored := s.storeStats()
	r.GaugeFunc("auditfleet_collector_store_days", "Days of which events are stored.", func() float64 {
		days := map[store.Day]bool{}
		for _, d := range stored().Days {
			days[d.Day] = true
		}
		return float64(len(days))
	})
	r.GaugeFunc("auditfleet_collector_store_partitions", "Files of stored events: one a day, and one more for each SIGUSR1.", func() float64 { return float64(len(stored().Days)) })
	r.GaugeFunc("auditfleet_collector_store_disk_bytes", "Size of the partitions on disk, index included.", func() float64 { return float64(stored().DiskBytes) })
	r.GaugeFunc("auditfleet_collector_store_events", "Events stored.", func() float64 { return float64(stored().Events) })
	r.GaugeFunc("auditfleet_collector_store_index_bytes", "Size of the index in the partitions.", func() float64 { return float64(stored().IndexBytes) })
	r.GaugeFunc("auditfleet_collector_store_raw_bytes", "Raw text of the events stored.", func() float64 { return float64(stored().RawBytes) })
}

// storeStats is the store's figures, asked for at most once a second: a scrape
// wants several.
func (s *Server) storeStats() func() store.Stats {
	var (
		mu   sync.Mutex
		at   time.Time
		last store.Stats
	)
	return func() store.Stats {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.Sub(at) >= time.Second {
			if st, err := s.store.Stats(context.Background()); err == nil {
				at, last = now, st
			}
		}
		return last
	}
}
