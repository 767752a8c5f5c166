package report

import (
	"math"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// printer is the logscan.Worker of a report. For a list it formats the lines of events;
// for a summary it counts values.
//
// Each goroutine of a scan has its own printer, and nothing in a printer is locked. Two
// rules make that safe: during the scan only that goroutine uses the printer, and the
// caller reads tally, over and group only after the scan has returned, when no worker
// runs. Flush hands the part over and starts an empty one. The part's fresh values are a
// piece of the tally's order, to which the worker only appends.
type printer struct {
	o     *Options
	spec  *spec
	types []span
	needs query.FieldSet
	names interpret.Names
	in    *interpret.Interpreter // of what was typed
	loc   *time.Location
	facts facts

	tally *tally    // of a summary
	over  *overview // of the summary of summaries
	group *grouper  // of our own reports

	any     bool // there was an event of what the report is about
	part    part
	rows    encoder // of --format
	value   []byte  // of a cell
	stamp   []byte  // the time of second sec in words
	sec     int64
	scratch []byte
}

// part is the result of one batch of consecutive events. After Flush returned it, it
// belongs to the writer.
type part struct {
	lines []byte // text of the lines, without the line numbers
	ends  []int  // end offset in lines of each line, or of each cell of a table
	fresh []string
	times
}

// times holds the times of the first and the last event of a sequence, in milliseconds
// since the epoch; any says that there was one.
type times struct {
	first, last int64
	any         bool
}

func (t *times) add(ms int64) {
	if !t.any {
		t.first, t.any = ms, true
	}
	t.last = ms
}

// noSecond is no second of any event.
const noSecond = math.MinInt64

func newPrinter(o *Options, loc *time.Location) *printer {
	s := &reports[o.Kind]
	p := &printer{o: o, spec: s, types: s.types, needs: s.needs, names: o.Names, loc: loc, sec: noSecond, rows: encoder{o: o}}
	if o.Interpret {
		p.needs |= wantArch // a system call's name depends on it
	}
	switch {
	case o.Group != nil:
		p.needs &= wantArch // no more than the name of a system call
		p.group = newGrouper(o, loc)
	case o.Kind == Overview:
		p.over = newOverview(o.Memory)
	case o.Summary:
		p.tally = newTally(o.Memory)
		if s.sumTypes != nil {
			p.types = s.sumTypes
		}
	case o.Kind == TTY:
		p.in = interpret.New(interpret.Config{Escape: interpret.EscapeRaw})
	}
	return p
}

// Event implements logscan.Worker.
func (p *printer) Event(ev *event.Event) error {
	if len(ev.Records) == 0 {
		return nil
	}
	p.part.add(ev.Ms)
	if p.o.Kind == LogTimes {
		return nil
	}
	f := &p.facts
	f.ev, f.firstRecord = ev, &ev.Records[0]
	if !p.o.mayInclude(f.head()) || len(p.types) > 0 && !about(f, p.types) || !p.node(ev.Node) {
		return nil
	}
	p.any = true
	if p.group == nil || p.group.facts {
		f.read(ev, p.needs)
	}
	switch {
	case p.o.Result == OnlyFailed && f.outcome != failed, p.o.Result == OnlySuccess && f.outcome != succeeded:
		return nil
	case p.group != nil:
		p.group.add(f)
		return memoryOf(p.group.tally.full)
	case p.over != nil:
		p.over.add(f)
		return memoryOf(p.over.full)
	}
	if p.spec.when != nil && !p.spec.when(f) && (p.tally == nil || p.o.Kind == Auth) {
		return nil
	}
	if p.tally != nil {
		p.spec.sum(p, f)
		return memoryOf(p.tally.full)
	}
	p.row(f)
	return nil
}

// memoryOf is the error of counts that are full.
func memoryOf(full bool) error {
	if full {
		return query.ErrMemory
	}
	return nil
}

// Flush implements logscan.Worker.
func (p *printer) Flush() (part, error) {
	out := p.part
	p.part = part{}
	if p.o.Format != FormatStock {
		out.lines, out.ends = p.rows.take()
	}
	if p.tally != nil {
		out.fresh = p.tally.fresh()
	}
	return out, nil
}

func (p *printer) node(node []byte) bool {
	if len(p.o.Nodes) == 0 {
		return true
	}
	for _, n := range p.o.Nodes {
		if node != nil && query.NodeIs(n, string(node)) {
			return true
		}
	}
	return false
}

// changes maps the record types of account, group and label changes to what they do: add
// or delete.
var changes = map[uint16]Change{
	tables.AddUser: Added, tables.DelUser: Deleted, tables.AddGroup: Added, tables.DelGroup: Deleted,
	1407: Added, 1408: Deleted, // MAC_CIPSOV4_ADD, _DEL
	1409: Added, 1410: Deleted, // MAC_MAP_ADD, _DEL
	1411: Added, 1412: Deleted, // MAC_IPSEC_ADDSA, _DELSA
	1413: Added, 1414: Deleted, // MAC_IPSEC_ADDSPD, _DELSPD
	1416: Added, 1417: Deleted, // MAC_UNLBL_STCADD, _STCDEL
}

// mayInclude decides by the type of an event's first record.
func (o *Options) mayInclude(head uint16) bool {
	if o.NoConfig && head == tables.ConfigChange {
		return false
	}
	if o.Change != AnyChange {
		if c := changes[head]; c != AnyChange && c != o.Change {
			return false
		}
	}
	return true
}

// row adds the lines of an event, each behind its number, which is not known yet.
func (p *printer) row(f *facts) {
	f.row = 0
	if p.spec.rows != nil {
		f.row = p.spec.rows(f, 0)
	}
	for f.row >= 0 {
		if p.o.Format == FormatStock {
			p.appendLine(f)
		} else {
			p.appendRow(f)
		}
		if p.spec.rows == nil {
			return
		}
		f.row = p.spec.rows(f, f.row+1)
	}
}

func (p *printer) appendLine(f *facts) {
	if sec := f.ev.Ms / 1000; sec != p.sec {
		p.sec = sec
		p.stamp = p.appendDate(p.stamp[:0], sec)
	}
	dst := append(p.part.lines, p.stamp...)
	for i := range p.spec.cells {
		dst = p.spec.cells[i].append(p, f, append(dst, ' '))
	}
	p.part.lines = append(dst, '\n')
	p.part.ends = append(p.part.ends, len(p.part.lines))
}

func (p *printer) appendDate(dst []byte, sec int64) []byte {
	return output.AppendDate(dst, p.o.Locale, time.Unix(sec, 0).In(p.loc))
}

// appendTyped appends what was typed: the names of keys, and text.
func (p *printer) appendTyped(dst []byte, r *record.Record, data []byte) []byte {
	n := 0
	for n < len(data) && isHexDigit(data[n]) {
		n++
	}
	if n == len(data) && n < 2 {
		return append(append(append(dst, "conversion error("...), data...), ')')
	}
	return p.in.AppendValue(dst, &record.Record{Type: tables.TTY, Raw: r.Raw}, record.Field{Name: []byte("data"), Value: data})
}

func isHexDigit(c byte) bool { return c-'0' <= 9 || (c|0x20) >= 'a' && (c|0x20) <= 'f' }
