package logscan

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// model is what a scan must give, as simply as it can be said: an array of
// places, as the stock tool has it, looked through from end to end for everything.
type model struct {
	cfg     ReadConfig
	places  []*modelEvent // nil is free
	out     []*event.Event
	skipped []string
}

type modelEvent struct {
	ev       event.Event
	sec      int64
	complete bool
}

func modelScan(cfg ReadConfig, logs ...[]byte) *model {
	m := &model{cfg: cfg}
	for _, log := range logs {
		for line := range bytes.SplitSeq(log, []byte("\n")) {
			m.line(line)
		}
	}
	for _, p := range m.places {
		if p != nil {
			p.complete = true
		}
	}
	m.drain()
	return m
}

func (m *model) line(line []byte) {
	if len(line) > maxLine {
		rest := line[maxLine:]
		m.skip(rest, errTooLong)
		line = line[:maxLine]
	}
	var r record.Record
	if err := r.Parse(line); !r.IsRecord() {
		m.skip(line, err)
		return
	}
	if ms := r.Ms(); m.cfg.StartMs != 0 && ms < m.cfg.StartMs || m.cfg.EndMs != 0 && ms > m.cfg.EndMs {
		return
	}
	for _, p := range m.places {
		if p != nil && !p.complete && p.ev.Ms == r.Ms() && p.ev.Serial == r.Serial && bytes.Equal(p.ev.Node, r.Node) && (p.ev.Node == nil) == (r.Node == nil) {
			p.ev.Records = append(p.ev.Records, r)
			return
		}
	}
	if r.Type == tables.EOE {
		return
	}
	for _, p := range m.places {
		if p != nil && p.sec+m.cfg.timeoutSec() <= r.Sec {
			p.complete = true
		}
	}
	n := &modelEvent{ev: event.Event{Node: r.Node, Ms: r.Ms(), Serial: r.Serial, Records: []record.Record{r}}, sec: r.Sec, complete: startsSingle(r.Type)}
	if i := slices.Index(m.places, nil); i >= 0 {
		m.places[i] = n
	} else {
		m.places = append(m.places, n)
	}
	m.drain()
}

func (m *model) drain() {
	for {
		least := -1
		for i, p := range m.places {
			if p != nil && (least < 0 || p.ev.Ms < m.places[least].ev.Ms || p.ev.Ms == m.places[least].ev.Ms && p.ev.Serial < m.places[least].ev.Serial) {
				least = i
			}
		}
		if least < 0 || !m.places[least].complete {
			return
		}
		m.out = append(m.out, &m.places[least].ev)
		m.places[least] = nil
	}
}

func (m *model) skip(line []byte, err error) {
	if len(line) > 0 {
		m.skipped = append(m.skipped, skippedText(line, err))
	}
}

func skippedText(line []byte, err error) string { return fmt.Sprintf("%v: %.200q", err, line) }

// eventText is all that can be told apart of an event.
func eventText(ev *event.Event) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%q %v %d %d\n", ev.Node, ev.Node == nil, ev.Ms, ev.Serial)
	for i := range ev.Records {
		r := &ev.Records[i]
		fmt.Fprintf(&b, "\t%q %d %d %v\n", r.Raw, r.Type, r.Ms(), r.Err)
	}
	return b.String()
}
