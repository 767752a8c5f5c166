package cli

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/proto/fleet"
)

// The JSON of coverage; times are in UTC, as RFC 3339 has them.
type (
	coverageHost struct {
		Host         string             `json:"host"`
		State        string             `json:"state"`
		Lost         uint64             `json:"lost"`
		Events       uint64             `json:"lost_events,omitempty"`
		From         string             `json:"from,omitempty"`
		To           string             `json:"to,omitempty"`
		Causes       []coverageSpan     `json:"causes"`
		Notes        []coverageSpan     `json:"notes,omitempty"` // they change no state
		Intervals    []coverageSpan     `json:"intervals,omitempty"`
		ByStatements float64            `json:"stated_seconds"`
		BySerials    float64            `json:"by_serials_seconds"`
		Records      uint64             `json:"records"`
		EventsStored uint64             `json:"events"`
		Retained     string             `json:"retained_until,omitempty"`
		Held         bool               `json:"on_hold,omitempty"`
		Unheard      bool               `json:"unheard,omitempty"` // no host has this name
		Connection   *coverageConn      `json:"connection,omitempty"`
		Forwarder    *coverageForwarder `json:"forwarder,omitempty"`
	}
	coverageSpan struct {
		State   string   `json:"state"`
		Cause   string   `json:"cause"`
		Hop     string   `json:"hop"`
		Records uint64   `json:"records"`
		From    string   `json:"from"`
		To      string   `json:"to"`
		Seconds *float64 `json:"seconds,omitempty"`
		Dropped string   `json:"dropped,omitempty"` // of retention and retention-key: when
		Was     string   `json:"was,omitempty"`     // and what was known of the time until then
	}
	coverageConn struct {
		Up    bool   `json:"up"`
		Since string `json:"since"`
	}
	coverageForwarder struct {
		Said       string `json:"said"`
		Run        string `json:"run"`
		Boot       string `json:"boot,omitempty"`
		Rules      string `json:"rules,omitempty"`
		Registered bool   `json:"registered"`
		Enabled    bool   `json:"enabled"`
		Unsent     uint64 `json:"unsent"`
		Oldest     string `json:"oldest,omitempty"`
		Invisible  uint64 `json:"invisible"`
	}
)

// utc is a time for programs; "" for none.
func utc(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// coverageJSON writes one object a host, a line each.
func coverageJSON(list []*fleet.Coverage, detail bool) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	for _, c := range list {
		h := coverageHost{
			Host: string(c.GetHost()), State: c.GetState(), Lost: c.GetLost(), Events: c.GetEvents(), From: utc(c.GetFromMs()), To: utc(c.GetToMs()), Causes: []coverageSpan{},
			ByStatements: float64(c.GetByStatementsMs()) / 1000, BySerials: float64(c.GetBySerialsMs()) / 1000, Records: c.GetRecords(), EventsStored: c.GetEventsStored(),
		}
		for _, x := range c.GetCauses() {
			h.Causes = append(h.Causes, spanOf(x))
		}
		for _, x := range c.GetNotes() {
			h.Notes = append(h.Notes, spanOf(x))
		}
		h.Retained, h.Held, h.Unheard = utc(c.GetRetainedUntilMs()), c.GetHeld(), c.GetUnheard()
		if up, down := c.GetUpMs(), c.GetDownMs(); up+down > 0 {
			h.Connection = &coverageConn{up > 0, utc(max(up, down))}
		}
		if detail {
			for _, x := range c.GetIntervals() {
				h.Intervals = append(h.Intervals, coverageSpan{x.GetState(), x.GetCause(), x.GetHop(), x.GetRecords(), utc(x.GetFromMs()), utc(x.GetToMs()), nil, utc(x.GetDroppedMs()), x.GetWas()})
			}
		}
		if c.GetRun() != "" {
			h.Forwarder = &coverageForwarder{utc(c.GetSaidMs()), c.GetRun(), c.GetBoot(), c.GetRules(), c.GetRegistered(), c.GetEnabled(), c.GetUnsent(), utc(c.GetOldestMs()), c.GetInvisible()}
		}
		if err := enc.Encode(&h); err != nil {
			panic(err) // numbers and strings
		}
	}
	return out.Bytes()
}

func spanOf(x *fleet.CoverageCause) coverageSpan {
	seconds := float64(x.GetLengthMs()) / 1000
	return coverageSpan{x.GetState(), x.GetCause(), x.GetHop(), x.GetRecords(), utc(x.GetFromMs()), utc(x.GetToMs()), &seconds, utc(x.GetDroppedMs()), x.GetWas()}
}

// coverageCSV writes a line for each cause of a host, or with detail for each interval; one
// without a cause for a host that has none.
func coverageCSV(list []*fleet.Coverage, detail bool) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	row := func(cells ...string) { _ = w.Write(cells) } // Error has it
	row("HOST", "STATE", "LOST", "CAUSE", "CAUSE_STATE", "HOP", "RECORDS", "FROM", "TO")
	for _, c := range list {
		host, lost := string(c.GetHost()), strconv.FormatUint(c.GetLost(), 10)
		n := len(c.GetCauses())
		if detail {
			n = len(c.GetIntervals())
		}
		if n == 0 {
			row(host, c.GetState(), lost, "", "", "", "", utc(c.GetFromMs()), utc(c.GetToMs()))
		}
		for i := range n {
			if detail {
				x := c.GetIntervals()[i]
				row(host, c.GetState(), lost, x.GetCause(), x.GetState(), x.GetHop(), strconv.FormatUint(x.GetRecords(), 10), utc(x.GetFromMs()), utc(x.GetToMs()))
				continue
			}
			x := c.GetCauses()[i]
			row(host, c.GetState(), lost, x.GetCause(), x.GetState(), x.GetHop(), strconv.FormatUint(x.GetRecords(), 10), utc(x.GetFromMs()), utc(x.GetToMs()))
		}
	}
	w.Flush()
	return out.Bytes(), w.Error()
}
