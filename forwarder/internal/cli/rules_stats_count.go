package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// keyStats counts the events that one key has caused.
type keyStats struct {
	Key      string    `json:"key"` // "" for rules without one
	Events   uint64    `json:"events"`
	Records  uint64    `json:"records"`
	Bytes    uint64    `json:"bytes"`
	PerHour  float64   `json:"events_per_hour"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	Syscall  string    `json:"syscall,omitempty"` // the busiest
	Calls    uint64    `json:"syscall_events,omitempty"`
	Exe      string    `json:"exe,omitempty"` // the busiest
	Runs     uint64    `json:"exe_events,omitempty"`
	Rules    []string  `json:"rules,omitempty"`
	syscalls counter
	exes     counter
}

// counter counts values. It counts the first counterMax different values separately and
// all others together, so its memory is bounded.
type counter map[string]uint64

const counterMax = 10000

func (c counter) add(v string) {
	if _, ok := c[v]; !ok && len(c) >= counterMax {
		v = "(others)"
	}
	c[v]++
}

func (c counter) most() (value string, n uint64) {
	for v, count := range c {
		if count > n || count == n && v < value {
			value, n = v, count
		}
	}
	return value, n
}

// counting is a logscan.Worker: it counts the events that one goroutine receives and is
// not locked. The caller adds the workers up after the scan has returned.
type counting struct {
	x    query.Extractor
	keys map[string]*keyStats
}

// Event implements logscan.Worker.
func (c *counting) Event(ev *event.Event) error {
	countEvent(&c.x, ev, c.keys)
	return nil
}

// Flush implements logscan.Worker.
func (c *counting) Flush() (none struct{}, _ error) { return none, nil }

func countEvent(x *query.Extractor, ev *event.Event, keys map[string]*keyStats) {
	var names []string
	arch, syscall, exe := "", "", ""
	x.Extract(ev, func(f query.Field, value []byte) {
		switch f {
		case query.FieldKey:
			if name := string(value); !slices.Contains(names, name) {
				names = append(names, name)
			}
		case query.FieldArch:
			arch = string(value)
		case query.FieldSyscall:
			syscall = string(value)
		case query.FieldExe:
			exe = string(value)
		}
	})
	if len(names) == 0 {
		if syscall == "" {
			return
		}
		names = []string{""}
	}
	size, at := uint64(ev.Size()+len(ev.Records)), time.UnixMilli(ev.Ms)
	for _, name := range names {
		if name == "(null)" {
			name = ""
		}
		k := keys[name]
		if k == nil {
			k = &keyStats{Key: name, First: at, syscalls: counter{}, exes: counter{}}
			keys[name] = k
		}
		k.Events++
		k.Records += uint64(len(ev.Records))
		k.Bytes += size
		if at.Before(k.First) {
			k.First = at
		}
		if at.After(k.Last) {
			k.Last = at
		}
		if syscall != "" {
			k.syscalls.add(callName(arch, syscall))
		}
		if exe != "" {
			k.exes.add(exe)
		}
	}
}

func callName(arch, nr string) string {
	a, ok := tables.ArchByName(arch)
	n := 0
	if _, err := fmt.Sscan(nr, &n); err != nil || !ok {
		return nr
	}
	if name, ok := tables.SyscallName(a, n); ok {
		return name
	}
	return nr
}
