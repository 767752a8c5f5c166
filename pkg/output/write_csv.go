package output

import (
	"bytes"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/normalize"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// told is the common part of the csv and text formats: both write what package normalize
// finds in an event. One goroutine may use it.
type told struct {
	norm  *normalize.Normalizer
	in    *interpret.Interpreter
	loc   *time.Location
	date  string // of strftime
	warn  func(string)
	sec   int64
	stamp []byte
	at    time.Time
}

func newTold(o *Config, loc *time.Location) told {
	names := o.Names
	if names == nil {
		names = nss.New(nss.Config{})
	}
	in := interpret.New(interpret.Config{Names: names, Escape: o.Escape})
	return told{
		norm: normalize.New(in, nil), in: in, loc: loc, date: DateLayout(o.Locale), warn: o.Warn, sec: -1,
	}
}

// each calls fn for each event that ev's records count as.
func (t *told) each(ev *event.Event, fn func(records []record.Record)) {
	t.in.Refresh()
	ofHost(t.in, t.norm, ev)
	for first, rest := normalize.Next(ev.Records); len(first) > 0; first, rest = normalize.Next(rest) {
		fn(first)
	}
}

// clock sets the local time of ev, and the stamp in this layout of strftime.
func (t *told) clock(ev *event.Event, layout string) {
	if sec := ev.Ms / 1000; sec != t.sec {
		t.sec = sec
		t.at = time.Unix(sec, 0).In(t.loc)
		t.stamp = appendTime(t.stamp[:0], layout, t.at)
	}
}

// csvFormat writes one line for each event, after a head with the column names. It writes
// the stock tool's form, which does not quote cells, or that of RFC 4180.
type csvFormat struct {
	told
	keys, labels, second, time bool
	rfc, crlf                  bool
	cellAt                     int // where the cell being written begins
	scratch                    []byte
}

func newCSVFormat(o *Config, loc *time.Location) *csvFormat {
	return &csvFormat{
		told: newTold(o, loc), keys: o.ExtraKeys, labels: o.ExtraLabels, second: o.ExtraObj2, time: o.ExtraTime, rfc: o.CSVQuoted, crlf: o.CSVQuoted && !o.NoCR,
	}
}

func (f *csvFormat) Head(dst []byte) []byte {
	column := func(on bool, names string) {
		if on {
			dst = append(dst, names...)
		}
	}
	column(true, "NODE,EVENT,DATE,TIME,")
	column(f.time, "YEAR,MONTH,DAY,WEEKDAY,HOUR,MILLI,GMT_OFFSET,")
	column(true, "SERIAL_NUM,EVENT_KIND,SESSION,SUBJ_PRIME,SUBJ_SEC,SUBJ_KIND,")
	column(f.labels, "SUBJ_LABEL,")
	column(true, "ACTION,RESULT,OBJ_PRIME,OBJ_SEC,")
	column(f.second, "OBJ2,")
	column(f.labels, "OBJ_LABEL,")
	column(true, "OBJ_KIND,HOW")
	column(f.keys, ",KEY")
	return f.newline(dst)
}

func (f *csvFormat) newline(dst []byte) []byte {
	if f.crlf {
		dst = append(dst, '\r')
	}
	return append(dst, '\n')
}

func (f *csvFormat) Append(dst []byte, ev *event.Event) []byte {
	f.clock(ev, f.date+",%H:%M:%S,")
	f.each(ev, func(records []record.Record) { dst = f.line(dst, ev, records) })
	return dst
}

// cell ends a cell that is not the last one.
func (f *csvFormat) cell(dst []byte) []byte {
	dst = append(f.last(dst), ',')
	f.cellAt = len(dst)
	return dst
}

// last ends the last cell: of RFC 4180's form it makes the cell safe and quotes it where it
// needs quotes.
func (f *csvFormat) last(dst []byte) []byte {
	if !f.rfc || len(dst) == f.cellAt {
		return dst
	}
	f.scratch = append(f.scratch[:0], dst[f.cellAt:]...)
	return AppendCSV(dst[:f.cellAt], f.scratch, true)
}

func (f *csvFormat) line(dst []byte, ev *event.Event, records []record.Record) []byte {
	n := f.norm
	known := n.Event(records, f.labels)
	f.cellAt = len(dst)
	dst = f.cell(n.AppendNode(dst, ev.Node))
	from := len(dst)
	dst = appendTypeName(dst, &records[0])
	name := dst[from:]
	dst = append(append(dst, ','), f.stamp...)
	if f.time {
		dst = f.appendTimes(dst, ev)
	}
	dst = append(strconv.AppendUint(dst, ev.Serial, 10), ',')
	f.cellAt = len(dst)
	if !known {
		if f.warn != nil {
			f.warn("error normalizing " + string(name))
		}
		return f.newline(f.unknown(dst))
	}
	dst = f.cell(append(dst, n.Kind...))
	dst = f.cell(n.AppendText(dst, n.Session))
	dst = f.cell(appendSubject(dst, n))
	dst = f.cell(n.AppendText(dst, n.Alias))
	dst = f.cell(append(dst, n.SubjectKind...))
	if f.labels {
		dst = f.cell(n.AppendText(dst, n.SubjectLabel()))
	}
	dst = f.cell(appendAction(dst, n))
	if success, ok := n.Succeeded(); ok && success {
		dst = append(dst, "success"...)
	} else if ok {
		dst = append(dst, "failed"...)
	}
	dst = f.cell(dst)
	if n.Has(n.Object) {
		if n.Type(n.Object) == tables.ConfigChange && namesSetting(n.Action) {
			dst = append(dst, n.Name(n.Object)...)
		} else {
			dst = n.AppendFull(dst, n.Object)
		}
	}
	dst = f.cell(dst)
	if n.Detail == n.Object { // a damaged PATH record
		dst = n.AppendFull(dst, n.Detail)
	} else {
		dst = n.AppendText(dst, n.Detail)
	}
	dst = f.cell(dst)
	if f.second {
		dst = f.cell(n.AppendFull(dst, n.Second))
	}
	if f.labels {
		dst = f.cell(n.AppendText(dst, n.ObjectLabel()))
	}
	dst = f.cell(append(dst, n.ObjectKind...))
	dst = append(dst, n.How...)
	if f.keys {
		dst = n.AppendText(f.cell(dst), n.Key)
	}
	return f.newline(f.last(dst))
}

// unknown appends the empty cells of an event that nothing is known of. The stock tool
// writes one too few.
func (f *csvFormat) unknown(dst []byte) []byte {
	dst = append(dst, ",,,,,,,,,"...)
	if f.labels {
		dst = append(dst, ",,"...)
	}
	if f.keys {
		dst = append(dst, ',')
	}
	if f.rfc {
		dst = append(dst, ',')
		if f.second {
			dst = append(dst, ',')
		}
	}
	return dst
}

// appendTimes appends what --extra-time adds.
func (f *csvFormat) appendTimes(dst []byte, ev *event.Event) []byte {
	weekday := int64(f.at.Weekday())
	if weekday == 0 {
		weekday = 7
	}
	dst = f.at.AppendFormat(dst, "2006,01,02,")
	dst = append(strconv.AppendInt(dst, weekday, 10), ',')
	if f.at.Hour() < 10 {
		dst = append(dst, ' ')
	}
	dst = append(strconv.AppendInt(dst, int64(f.at.Hour()), 10), ',')
	dst = append(strconv.AppendInt(dst, ev.Ms%1000, 10), ',')
	return append(f.at.AppendFormat(dst, "-07:00"), ',')
}

// appendTypeName appends the name of a record's type, nothing when it has none.
func appendTypeName(dst []byte, r *record.Record) []byte {
	if r.Type == 0 {
		return dst
	}
	if name := tables.TypeName(r.Type); !bytes.HasPrefix([]byte(name), []byte("UNKNOWN[")) {
		dst = append(dst, name...)
	}
	return dst
}

func appendSubject(dst []byte, n *normalize.Normalizer) []byte {
	from := len(dst)
	dst = n.AppendText(dst, n.Subject)
	if string(dst[from:]) == "unset" {
		dst = append(dst[:from], "system"...)
	}
	return dst
}

func appendAction(dst []byte, n *normalize.Normalizer) []byte {
	if n.Action == nil {
		return append(dst, "did-unknown"...)
	}
	return append(dst, n.Action...)
}

// namesSetting says whether an action's object is the name of a setting, not its
// value.
func namesSetting(action []byte) bool {
	return string(action) == "set" || string(action) == "seccomp-logging"
}
