package ledger

import (
	"bytes"
	"strconv"

	"github.com/auditfleet/auditfleet/pkg/record"
)

// statement is what a forwarder says of itself: DAEMON_RESUME op=alive, as
// forwarder/internal/agent/FORMAT.md has it.
//
// It is a part of the tracker (FORMAT.md): the names of what is kept are of the format.
type statement struct {
	Run        string   `json:"id"`
	Boot       string   `json:"boot,omitempty"`
	Rules      string   `json:"rules,omitempty"`
	N          uint64   `json:"n"`
	First      int64    `json:"-"` // ms
	Last       int64    `json:"last"`
	Records    uint64   `json:"records"`           // handed on in this run, this one not included
	Dropped    uint64   `json:"dropped,omitempty"` // of them not shipped
	Lost       uint64   `json:"lost,omitempty"`    // by any cause
	Acked      []uint64 `json:"acked,omitempty"`   // of them by each collector, where there are several
	Unsent     uint64   `json:"unsent,omitempty"`
	Oldest     int64    `json:"oldest,omitempty"` // ms; 0: there is none
	Kernel     bool     `json:"kernel,omitempty"` // it is about a kernel, so the next three are said
	Multicast  bool     `json:"multicast,omitempty"`
	Registered bool     `json:"registered,omitempty"`
	Enabled    bool     `json:"enabled,omitempty"`
	Invisible  uint64   `json:"invisible,omitempty"`
	file       bool     // a log that is followed
	ends       bool     // the run's last
	found      bool     // auditing was on when the run began
}

// maxWord is the longest run, boot or rules that is kept of a statement.
const maxWord = 64

// parseStatement reads one; false when the record is none.
func parseStatement(r *record.Record) (s statement, ok bool) {
	fields := r.Fields()
	for f, more := fields.Next(); more; f, more = fields.Next() {
		v := f.Value
		switch string(f.Name) {
		case "op":
			ok = string(v) == "alive"
			if !ok {
				return s, false
			}
		case "run":
			s.Run = word(v)
		case "boot":
			s.Boot = word(v)
		case "rules":
			s.Rules = word(v)
		case "n":
			s.N = number(v)
		case "first":
			s.First = stamp(v)
		case "last":
			s.Last = stamp(v)
		case "records":
			s.Records = number(v)
		case "dropped":
			s.Dropped = number(v)
		case "lost":
			s.Lost = number(v)
		case "acked":
			s.Acked = numbers(v)
		case "unsent":
			s.Unsent = number(v)
		case "oldest":
			s.Oldest = stamp(v)
		case "source":
			s.Multicast, s.file = string(v) == "multicast", string(v) == "file"
		case "ends":
			s.ends = string(v) == "yes"
		case "registered":
			s.Registered = string(v) == "yes"
		case "enabled":
			s.Kernel, s.Enabled = true, string(v) != "0"
		case "found":
			s.found = string(v) != "0"
		case "invisible":
			s.Invisible = number(v)
		}
	}
	return s, ok && s.Run != "" && s.N > 0 && s.First > 0 && s.First <= s.Last
}

// LostRecords is how many records a forwarder says that it lost: to the kernel, to a spool
// that is full, for want of a collector. Other records of daemons say nothing of it:
// op=log-removed is about a host's own log, op=serial-gaps about no loss.
func LostRecords(r *record.Record) uint64 {
	if f, ok := r.Get("op"); !ok || string(f.Value) != "lost-records" {
		return 0
	}
	f, _ := r.Get("records")
	return number(f.Value)
}

func word(v []byte) string {
	if len(v) > maxWord {
		v = v[:maxWord]
	}
	return string(v)
}

// number reads a decimal number, 0 when it is none.
func number(v []byte) uint64 {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// maxServers is how many collectors of a statement are told apart.
const maxServers = 16

// numbers reads decimal numbers with commas between them.
func numbers(v []byte) (out []uint64) {
	for part := range bytes.SplitSeq(v, []byte(",")) {
		if len(out) == maxServers {
			return nil
		}
		out = append(out, number(part))
	}
	return out
}

// stamp reads seconds and milliseconds since 1970 as milliseconds, 0 when it is none.
func stamp(v []byte) int64 {
	sec, milli, _ := bytes.Cut(v, []byte("."))
	s := number(sec)
	if s == 0 || s > 1<<40 {
		return 0
	}
	ms := uint64(0)
	if len(milli) == 3 {
		ms = number(milli)
	}
	return int64(s*1000 + ms)
}
