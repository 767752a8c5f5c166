package metrics

import (
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// OtherHosts is the host label of all hosts beyond the configured number.
const OtherHosts = "_other"

// HostSample is what is known of a host when a scrape asks.
type HostSample struct {
	Host           string
	Records, Bytes uint64
	Duplicates     uint64
	LastSeen       float64 // seconds since the epoch, of receipt
	LastEvent      float64 // seconds since the epoch, the newest event's own time
	Lag            float64 // seconds from the newest event to the newest receipt; the caller leaves it
}

// Hosts registers the per-host series. Series cost memory in every Prometheus
// that scrapes them, so at most limit hosts, those with most records, have their
// own; the rest are summed up as host="_other" (their times are the newest of
// them). each is called at each scrape and may be slow only in proportion to the
// number of hosts.
func (r *Registry) Hosts(limit int, each func(func(HostSample))) {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"host"}, nil)
	}
	r.reg.MustRegister(&hosts{
		limit:     limit,
		each:      each,
		records:   d("auditfleet_host_records_total", "Records stored of a host."),
		bytes:     d("auditfleet_host_bytes_total", "Bytes of raw text stored of a host."),
		dups:      d("auditfleet_host_duplicates_total", "Records a host sent again that were stored already."),
		lastSeen:  d("auditfleet_host_last_seen_seconds", "When a host's newest record was received, seconds since the epoch."),
		lag:       d("auditfleet_host_lag_seconds", "How far a host's newest event lay behind when its newest record was received."),
		lastEvent: d("auditfleet_host_last_event_seconds", "Time of a host's newest event, seconds since the epoch."),
	})
}

type hosts struct {
	limit                                     int
	each                                      func(func(HostSample))
	records, bytes, dups, lastSeen, lastEvent *prometheus.Desc
	lag                                       *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (h *hosts) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{h.records, h.bytes, h.dups, h.lastSeen, h.lastEvent, h.lag} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (h *hosts) Collect(ch chan<- prometheus.Metric) {
	all := h.samples()
	sort.Slice(all, func(i, j int) bool {
		if all[i].Records != all[j].Records {
			return all[i].Records > all[j].Records
		}
		return all[i].Host < all[j].Host
	})
	if len(all) > h.limit {
		rest := HostSample{Host: OtherHosts}
		for _, s := range all[h.limit:] {
			rest.add(s)
		}
		all = append(all[:h.limit:h.limit], rest)
	}
	for _, s := range all {
		count := func(d *prometheus.Desc, v uint64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), s.Host)
		}
		count(h.records, s.Records)
		count(h.bytes, s.Bytes)
		count(h.dups, s.Duplicates)
		ch <- prometheus.MustNewConstMetric(h.lastSeen, prometheus.GaugeValue, s.LastSeen, s.Host)
		ch <- prometheus.MustNewConstMetric(h.lastEvent, prometheus.GaugeValue, s.LastEvent, s.Host)
		ch <- prometheus.MustNewConstMetric(h.lag, prometheus.GaugeValue, s.Lag, s.Host)
	}
}

// samples are the hosts under names that Prometheus takes and that differ: a
// host calls itself what it likes, and one bad name would fail the whole scrape.
func (h *hosts) samples() []HostSample {
	var all []HostSample
	at := map[string]int{}
	h.each(func(s HostSample) {
		s.Lag = 0
		if s.LastEvent > 0 {
			s.Lag = max(0, s.LastSeen-s.LastEvent) // a clock ahead is no lag
		}
		if !utf8.ValidString(s.Host) {
			s.Host = strings.Trim(strconv.Quote(s.Host), `"`)
		}
		if s.Host == OtherHosts {
			s.Host = `"` + OtherHosts + `"`
		}
		if i, twice := at[s.Host]; twice {
			all[i].add(s)
			return
		}
		at[s.Host] = len(all)
		all = append(all, s)
	})
	return all
}

// add sums up; of times the later one counts, of lags the longer.
func (s *HostSample) add(o HostSample) {
	s.Records += o.Records
	s.Bytes += o.Bytes
	s.Duplicates += o.Duplicates
	s.LastSeen = max(s.LastSeen, o.LastSeen)
	s.LastEvent = max(s.LastEvent, o.LastEvent)
	s.Lag = max(s.Lag, o.Lag)
}
