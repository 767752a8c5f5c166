package output

import (
	"bytes"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// interpretFormat writes the interpreted records, the last one first, each after its type
// and local time.
type interpretFormat struct {
	loc   *time.Location
	date  string // of strftime
	in    *interpret.Interpreter
	stamp []byte // the time in words, of the second below
	sec   int64
	shell bool
}

func newInterpretFormat(o *Config, loc *time.Location) *interpretFormat {
	names := o.Names
	if names == nil {
		names = nss.New(nss.Config{})
	}
	return &interpretFormat{
		loc: loc, date: DateLayout(o.Locale), sec: -1, shell: o.Escape >= interpret.EscapeShell,
		in: interpret.New(interpret.Config{Names: names, Escape: o.Escape}),
	}
}

func (*interpretFormat) Head(dst []byte) []byte { return dst }

func (w *interpretFormat) Append(dst []byte, ev *event.Event) []byte {
	w.in.Host(ev.Node)
	dst = append(dst, "----\n"...)
	if sec := ev.Ms / 1000; sec != w.sec {
		w.sec = sec
		w.stamp = appendTime(w.stamp[:0], w.date+" %H:%M:%S", time.Unix(sec, 0).In(w.loc))
	}
	for i := len(ev.Records) - 1; i >= 0; i-- {
		r := &ev.Records[i]
		if bytes.IndexByte(r.Raw, '\n') >= 0 {
			r = oneLine(r)
		}
		dst = w.appendHead(dst, ev, r)
		dst = append(w.in.AppendBody(dst, r), '\n')
		if r.Type >= tables.DaemonStart && r.Type < tables.Syscall {
			break // the stock tool takes a daemon's event to be one record
		}
	}
	return dst
}

// oneLine returns a record that has newlines in it, which only a peer of a collector can make,
// with these as decoded values have them: what is behind one must not look like a record.
func oneLine(r *record.Record) *record.Record {
	out := &record.Record{}
	_ = out.Parse(bytes.ReplaceAll(r.Raw, []byte{'\n'}, []byte(`\012`))) // kept in out.Err, as r's
	if out.Node == nil {
		out.Node = r.Node // the host's that it is kept under
	}
	return out
}

// appendHead appends "[node=NAME ]type=TYPE msg=audit(DATE TIME.MILLIS:SERIAL) : ", as far as
// the record has the colon and the blank behind it.
func (w *interpretFormat) appendHead(dst []byte, ev *event.Event, r *record.Record) []byte {
	if r.Node != nil {
		dst = append(append(append(dst, "node="...), r.Node...), ' ')
	}
	dst = append(append(dst, "type="...), r.TypeName...)
	dst = append(append(dst, " msg=audit("...), w.stamp...)
	dst = append(dst, '.')
	ms := ev.Ms % 1000
	dst = append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), ':')
	dst = append(strconv.AppendUint(dst, ev.Serial, 10), ") "...)
	colon, blank := behindStamp(r)
	if colon {
		dst = append(dst, ':')
	}
	if w.shell && blank && bytes.IndexByte(r.Body, '=') < 0 { // text without a field is escaped with what is before it
		dst = append(dst, '\\')
	}
	if blank {
		dst = append(dst, ' ')
	}
	return dst
}

// behindStamp says what a record has between its stamp and its body: old daemons wrote no
// colon, and an EOE has no blank behind it where something trimmed the line.
func behindStamp(r *record.Record) (colon, blank bool) {
	end := len(r.Raw) - len(r.Body)
	if r.Enriched != nil {
		end -= len(r.Enriched) + 1
	}
	if r.Err != nil || end < 2 {
		return true, true
	}
	blank = r.Raw[end-1] == ' '
	if blank {
		end--
	}
	return r.Raw[end-1] == ':', blank
}
