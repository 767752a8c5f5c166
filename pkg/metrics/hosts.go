package metrics

import (
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// OtherHosts is the value of the host label that stands for all hosts beyond the
// configured number.
const OtherHosts = "_other"

// HostSample holds the numbers of one host. Times are in seconds since the epoch.
type HostSample struct {
	Host       string  `label:"host"`
	Records    uint64  `metric:"records_total" help:"Records stored of a host."`
	Bytes      uint64  `metric:"bytes_total" help:"Bytes of raw text stored of a host."`
	Duplicates uint64  `metric:"duplicates_total" help:"Records a host sent again that were stored already."`
	LastSeen   float64 `metric:"last_seen_seconds" help:"When a host's newest record was received, seconds since the epoch."`
	LastEvent  float64 `metric:"last_event_seconds" help:"Time of a host's newest event, seconds since the epoch."`
	Lost       uint64  `metric:"lost_records_total" help:"Records that a host has said that it lost itself, before they were sent."`
	Lag        float64 `metric:"lag_seconds" help:"How late a host's newest event was received; 0 while none was ever received within an hour of its time, as of a host of which old logs are imported."`
}

// ReadHosts registers the metrics of hosts. Series use memory in every Prometheus that
// scrapes them, so only the limit hosts with most records have series of their own; the
// others are summed up as host="_other" (of times, the newest counts). each must take no
// more than time proportional to the number of hosts.
func ReadHosts(r *Registry, limit int, each func(yield func(HostSample))) {
	readEach(r, host, func(yield func(HostSample)) {
		for _, s := range bounded(limit, named(each)) {
			yield(s)
		}
	})
}

// bounded sums up the hosts beyond limit.
func bounded(limit int, all []HostSample) []HostSample {
	sort.Slice(all, func(i, j int) bool {
		if all[i].Records != all[j].Records {
			return all[i].Records > all[j].Records
		}
		return all[i].Host < all[j].Host
	})
	if len(all) <= limit {
		return all
	}
	rest := HostSample{Host: OtherHosts}
	for _, s := range all[limit:] {
		rest.add(s)
	}
	return append(all[:limit:limit], rest)
}

// named are the hosts under names that Prometheus takes and that differ: a host calls
// itself what it likes, and one bad name would fail the whole scrape.
func named(each func(func(HostSample))) []HostSample {
	var all []HostSample
	at := map[string]int{}
	each(func(s HostSample) {
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
	s.Lost += o.Lost
	s.LastSeen = max(s.LastSeen, o.LastSeen)
	s.LastEvent = max(s.LastEvent, o.LastEvent)
	s.Lag = max(s.Lag, o.Lag)
}
