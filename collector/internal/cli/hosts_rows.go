package cli

import (
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/terminal"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// latest is the address that a host sent from last.
func latest(h *fleet.Host) string {
	if a := h.GetAddresses(); len(a) > 0 {
		return a[0]
	}
	return "-"
}

// hostRow is a host for programs. Times are RFC 3339 in UTC, absent when unknown.
type hostRow struct {
	Host          string   `json:"host"`
	Addresses     []string `json:"addresses"`
	Connected     bool     `json:"connected"`
	FirstSeen     string   `json:"first_seen,omitempty"`
	LastSeen      string   `json:"last_seen,omitempty"`
	LastEvent     string   `json:"last_event,omitempty"`
	Records       uint64   `json:"records"`
	Bytes         uint64   `json:"bytes"`
	Duplicates    uint64   `json:"duplicates"`
	Unparsable    uint64   `json:"unparsable"`
	State         string   `json:"state"`
	Rate          *float64 `json:"records_per_second,omitempty"`
	LagSeconds    *float64 `json:"lag_seconds,omitempty"`
	SilentSeconds int64    `json:"silent_seconds,omitempty"`
	Also          string   `json:"also,omitempty"`
	Lost          uint64   `json:"lost"`
	// Verified is when it last proved its name, absent where it never has.
	Verified   string `json:"verified,omitempty"`
	Mismatched uint64 `json:"mismatched"`
	// Holds are the holds on it, absent where there are none.
	Holds []string `json:"holds,omitempty"`
	// Said is what it says of itself, absent where it has not.
	Said *saidRow `json:"said,omitempty"`
	// Collectors have records of it: the one that heard of it last first; absent where one is asked.
	Collectors []collectorRow `json:"collectors,omitempty"`
}

// collectorRow is what one of several collectors has of a host.
type collectorRow struct {
	Collector string `json:"collector"`
	Connected bool   `json:"connected"`
	Records   uint64 `json:"records"`
	LastSeen  string `json:"last_seen,omitempty"`
	// Unstored is how many of the records were in no stored batch at its last word, and State how it is, where that is not running: of collectors that
	// keep events in one cluster.
	Unstored uint64 `json:"unstored,omitempty"`
	State    string `json:"state,omitempty"`
}

// collectors are their names.
func (r *hostRow) collectors() (names []string) {
	for _, c := range r.Collectors {
		name := c.Collector
		if c.State != "" {
			name += "(" + c.State + ")"
		}
		names = append(names, name)
	}
	return names
}

// saidRow is what a host says of itself by gRPC; nothing of it is proved.
type saidRow struct {
	BootID  string `json:"boot_id,omitempty"`
	Program string `json:"program,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	Rules   string `json:"rules,omitempty"` // SHA-256, hexadecimal
	At      string `json:"at"`
}

func rowOf(h *fleet.Host) hostRow {
	r := hostRow{
		Host: string(h.GetName()), Addresses: h.GetAddresses(), Connected: h.GetConnected(), State: stateDisconnected,
		FirstSeen: utc(h.GetFirstSeenMs()), LastSeen: utc(h.GetLastSeenMs()), LastEvent: utc(h.GetLastEventMs()),
		Records: h.GetRecords(), Bytes: h.GetBytes(), Duplicates: h.GetDuplicates(), Unparsable: h.GetUnparsable(), Rate: h.Rate, Also: string(h.GetAlso()), Lost: h.GetLost(),
		Verified: utc(h.GetVerifiedMs()), Mismatched: h.GetMismatched(),
	}
	if s := h.GetSaid(); s != nil {
		r.Said = &saidRow{BootID: string(s.GetBootId()), Program: string(s.GetProgram()), Kernel: string(s.GetKernel()), Rules: hex.EncodeToString(s.GetRules()), At: utc(s.GetAtMs())}
	}
	for _, what := range h.GetHolds() {
		r.Holds = append(r.Holds, string(what))
	}
	if r.Addresses == nil {
		r.Addresses = []string{}
	}
	if r.Connected {
		r.State = stateConnected
	}
	if h.LagMs != nil {
		lag := float64(h.GetLagMs()) / 1000
		r.LagSeconds = &lag
	}
	return r
}

func (l *hostList) json(out io.Writer) error {
	rows := []any{}
	for i := range l.rows {
		rows = append(rows, &l.rows[i])
	}
	if l.lacks.Len() > 0 {
		rows = append(rows, json.RawMessage(l.lacks.Bytes()))
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(rows)
}

// cell makes a text that came from the network, such as a host's name, safe for the csv.
func (l *hostList) cell(text string) string {
	if l.toTerminal {
		text = terminal.Clean(text)
	}
	if l.csvSafe {
		text = output.CSVSafe(text)
	}
	return text
}

func (l *hostList) csv(out io.Writer) error {
	w := csv.NewWriter(out)
	head := []string{
		"host", "address", "connected", "first_seen", "last_seen", "last_event", "records", "bytes", "duplicates", "unparsable",
		"state", "records_per_second", "lag_seconds", "silent_seconds", "addresses", "also", "lost", "verified", "mismatched", "holds",
	}
	if l.optional().collector {
		head = append(head, "collectors")
	}
	if err := w.Write(head); err != nil {
		return err
	}
	number := func(f *float64) string {
		if f == nil {
			return ""
		}
		return strconv.FormatFloat(*f, 'f', 3, 64)
	}
	for i, h := range l.hosts {
		r := &l.rows[i]
		row := []string{
			l.cell(r.Host), l.cell(latest(h)), strconv.FormatBool(r.Connected), r.FirstSeen, r.LastSeen, r.LastEvent,
			strconv.FormatUint(r.Records, 10), strconv.FormatUint(r.Bytes, 10),
			strconv.FormatUint(r.Duplicates, 10), strconv.FormatUint(r.Unparsable, 10),
			r.State, number(r.Rate), number(r.LagSeconds), strconv.FormatInt(r.SilentSeconds, 10),
			strings.Join(r.Addresses, " "), l.cell(r.Also), strconv.FormatUint(r.Lost, 10), r.Verified, strconv.FormatUint(r.Mismatched, 10), l.cell(strings.Join(r.Holds, " ")),
		}
		if l.optional().collector {
			row = append(row, l.cell(strings.Join(r.collectors(), " ")))
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}
