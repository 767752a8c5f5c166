package report

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// The rows of --format csv, json and table. The names of their columns are documented in
// collector-report(8) and stay as they are; columns may be added at the end.

// listColumns are those of a list before its own.
var listColumns = []string{timeColumn, nodeField}

// rowNames are the names of a report's columns.
func (w *writer) rowNames() (names []string, right []bool) {
	s := w.spec
	switch {
	case w.o.Kind == LogTimes:
		names = logColumns
	case w.o.Kind == Overview && w.o.Format == FormatTable:
		return []string{"what", "value"}, []bool{false, false}
	case w.o.Kind == Overview:
		names = overviewNames()
	case w.o.Summary:
		return []string{s.sumKey(), "total"}, []bool{false, true}
	default:
		names = append(names, listColumns...)
		for i := range s.cells {
			names = append(names, s.cells[i].name)
		}
	}
	return names, make([]bool, len(names))
}

// sumKey is the name of the column that has a summary's values.
func (s *spec) sumKey() string {
	if s.sumName != "" {
		return s.sumName
	}
	return s.sumColumn
}

// heading writes the names of the columns. The error is a *UsageError for a summary
// that the report has not.
func (w *writer) heading() error {
	if w.o.Summary && w.spec.sumTitle == "" {
		return usagef(unimplemented)
	}
	names, right := w.rowNames()
	w.rows.width, w.rows.right = len(names), right
	w.rows.encoder.heads(names...)
	return w.rows.own()
}

// appendRow adds the present line of an event as a row.
func (p *printer) appendRow(f *facts) {
	e := &p.rows
	if p.scratch = p.appendTime(p.scratch[:0], f.ev.Ms); len(p.scratch) > 0 {
		e.add(timeColumn, p.scratch, words)
	} else {
		e.absent(timeColumn)
	}
	if node := f.ev.Node; node != nil {
		e.add(nodeField, node, words)
	} else {
		e.absent(nodeField)
	}
	for i := range p.spec.cells {
		c := &p.spec.cells[i]
		v, ok := c.put(p, f, p.value[:0])
		p.value = v
		if !ok || c.lack != nil && c.lack(f) {
			e.absent(c.name)
			continue
		}
		k := c.kind
		if k == ids {
			k = p.idKind()
		}
		e.add(c.name, v, k)
	}
	e.end()
}

// idKind is what the values of ids are: numbers, or names.
func (p *printer) idKind() kind {
	if p.o.Interpret {
		return words
	}
	return number
}

// appendTime appends the time of an event as the format has it. The date and the zone are
// made once for the events of a second.
func (p *printer) appendTime(dst []byte, ms int64) []byte {
	if sec := ms / 1000; sec != p.sec {
		p.sec = sec
		p.stamp = appendTime(p.stamp[:0], p.o, p.loc, sec*1000)
	}
	dst = append(dst, p.stamp...)
	point := bytes.LastIndexByte(dst, '.')
	if p.o.Format == FormatTable || point < 0 || ms < 0 {
		return dst
	}
	milli := dst[point+1:]
	n := ms % 1000
	milli[0], milli[1], milli[2] = byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10)
	return dst
}

// rfcMilli is the layout of times in csv and JSON.
const rfcMilli = "2006-01-02T15:04:05.000Z07:00"

// appendTime appends a time as the format has it: RFC 3339, or the date of the locale in a
// table. It appends nothing for a year that RFC 3339 cannot say.
func appendTime(dst []byte, o *Options, loc *time.Location, ms int64) []byte {
	t := time.UnixMilli(ms).In(loc)
	switch {
	case o.Format == FormatTable:
		return output.AppendDate(dst, o.Locale, t)
	case t.Year() < 0 || t.Year() > 9999:
		return dst
	}
	return t.AppendFormat(dst, rfcMilli)
}

// summaryRows writes the values of a summary.
func (w *writer) summaryRows(counts []Count) {
	if len(counts) == 0 && w.o.Format == FormatTable {
		w.out.WriteString(nothing)
		return
	}
	e := &w.rows.encoder
	name := w.spec.sumKey()
	for _, c := range counts {
		v, k, ok := w.summaryValue(c.Value)
		if ok {
			e.add(name, []byte(v), k)
		} else {
			e.absent(name)
		}
		e.count("total", c.N)
		e.end()
	}
	_ = w.rows.own() // finish flushes, and reports
	_ = w.rows.flush()
}

// summaryValue is a value that a summary has counted, as rows have it; false where it
// stands for events without one.
func (w *writer) summaryValue(v string) (string, kind, bool) {
	switch w.o.Kind {
	case PID:
		n, _ := strconv.ParseInt(v, 10, 64)
		return strconv.FormatUint(uint64(uint32(n)), 10), number, true
	case Syscall:
		if w.o.Interpret {
			return v, words, true
		}
		return v, number, true
	case User, Auth, Login:
		k := words
		if w.o.Kind == User && !w.o.Interpret {
			k = number
		}
		switch {
		case v == strconv.Itoa(noAUID), w.o.Interpret && v == unknownTo+strconv.Itoa(noAUID)+")":
			return "", k, false
		case v == strconv.Itoa(unsetID):
			v = strconv.FormatUint(query.UnsetID, 10)
		}
		return v, k, true
	}
	if w.spec.style == typeNames {
		if n, err := strconv.ParseUint(v, 10, 16); err == nil {
			v = tables.TypeName(uint16(n))
		}
	}
	return v, words, true
}

// logColumns are those of the report of logs.
var logColumns = []string{"log", "first", "last"}

func (w *writer) logTimeRow(l LogTime) {
	e := &w.rows.encoder
	e.add("log", []byte(l.Name), words)
	for i, ms := range []int64{l.FirstMs, l.LastMs} {
		if at := w.milli(ms); l.FirstMs != 0 && len(at) > 0 {
			e.add(logColumns[1+i], at, words)
		} else {
			e.absent(logColumns[1+i])
		}
	}
	e.end()
	_ = w.rows.own()
}

// milli is a time with its milliseconds, as the format has it.
func (w *writer) milli(ms int64) []byte {
	dst := appendTime(nil, w.o, w.loc, ms)
	if w.o.Format == FormatTable {
		dst = fmt.Appendf(dst, ".%03d", ms%1000)
	}
	return dst
}

// overviewKeys are the names of the overview's numbers, by line.
var overviewKeys = [numLines]string{
	"config_changes", "account_changes", "logins", "failed_logins", "authentications", "failed_authentications", "users", "terminals",
	"hosts", "executables", "commands", "files", "avcs", "mac_events", "failed_syscalls", "anomalies", "responses", "crypto_events",
	"integrity_events", "virt_events", "keys", "pids", "events",
}

// overviewTimes are the names of the overview's times.
var overviewTimes = [...]string{"logs_first", "logs_last", "selected_first", "selected_last"}

func overviewNames() []string { return append(overviewTimes[:], overviewKeys[:]...) }

// overviewRows writes the summary of summaries: one row, and in a table one for each of
// its lines.
func (w *writer) overviewRows(sum *overview) {
	e := &w.rows.encoder
	add := func(name, what string, v []byte, k kind) {
		if w.o.Format == FormatTable {
			name = "value"
			e.add("what", []byte(what), words)
		}
		if len(v) == 0 {
			e.absent(name)
		} else {
			e.add(name, v, k)
		}
		if w.o.Format == FormatTable {
			e.end()
		}
	}
	first, last, from, to := w.ranges()
	for i, ms := range []int64{first, last, from, to} {
		what := [...]string{"first event of the logs", "last event of the logs", "selected from", "selected to"}[i]
		if w.times.any {
			add(overviewTimes[i], what, w.milli(ms), words)
		} else {
			add(overviewTimes[i], what, nil, words)
		}
	}
	for line, what := range overviewLines {
		add(overviewKeys[line], what, strconv.AppendUint(nil, sum.value(line), 10), number)
	}
	if w.o.Format != FormatTable {
		e.end()
	}
	_ = w.rows.own()
	_ = w.rows.flush()
}

// ranges are the times between which the logs' events are, and those selected.
func (w *writer) ranges() (first, last, from, to int64) {
	first, last = w.times.first, w.times.last
	if w.first != 0 {
		first = w.first
	}
	from, to = first, last
	if w.o.StartMs != 0 {
		from = w.o.StartMs
	}
	if w.o.EndMs != 0 {
		to = w.o.EndMs
	}
	return first, last, from, to
}
