package output

import (
	"bytes"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/normalize"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// lineFormat writes each event as one line that a person reads: when, where, who, what, how
// it went, by which program, from where, the keys and the serial number. What a record has
// is never left out for its length but where it is so long that the line would be none:
// then the line says how much is missing. Values are quoted as a shell does, so that no
// value can pass for a part of the sentence, and nothing that a terminal would obey is in
// the line.
type lineFormat struct {
	told
	layout string
	color  bool
	marks  bool // Mark was called: lines begin with a mark
	hit    bool

	records   []record.Record // of the part of the event that is being written
	call      string          // the system call's name
	object    []byte          // the file that was named last
	argument0 []byte          // of a command
	value     []byte          // scratch: one value
	path      []byte          // scratch: one path
	bad       bool            // the sentence says that something failed or was denied
}

// Widths of the columns before the sentence. A longer host or name shifts its line and is
// not cut.
const (
	hostWidth = 6
	whoWidth  = 14
)

const (
	lineTime   = "2006-01-02T15:04:05-07:00" // also a word that --start reads
	lineMillis = "2006-01-02T15:04:05.000-07:00"
)

func newLineFormat(o *Config, loc *time.Location) *lineFormat {
	names := o.Names
	if names == nil {
		names = nss.New(nss.Config{})
	}
	in := interpret.New(interpret.Config{Names: names, Escape: interpret.EscapeRaw})
	f := &lineFormat{told: told{norm: normalize.New(in, nil), in: in, loc: loc}, layout: lineTime, color: o.Color}
	if o.Milliseconds {
		f.layout = lineMillis
	}
	return f
}

func (*lineFormat) Head(dst []byte) []byte { return dst }

// Mark implements Marker.
func (f *lineFormat) Mark(hit bool) { f.marks, f.hit = true, hit }

func (f *lineFormat) Append(dst []byte, ev *event.Event) []byte {
	f.in.Refresh()
	ofHost(f.in, f.norm, ev)
	if f.marks {
		mark := "  "
		if f.hit {
			mark = "* "
		}
		dst = append(dst, mark...)
	}
	dst = f.begin(dst, styleTime)
	dst = time.UnixMilli(ev.Ms).In(f.loc).AppendFormat(dst, f.layout)
	dst = append(f.end(dst, styleTime), ' ')
	if host := hostOf(ev); len(host) > 0 {
		from := len(dst)
		dst = padded(appendQuoted(dst, host, longestValue), from, hostWidth)
	}
	n := 0
	for first, rest := normalize.Next(ev.Records); len(first) > 0; first, rest = normalize.Next(rest) {
		f.records = first
		if n == 0 {
			from := len(dst)
			dst = padded(f.appendWho(dst), from, whoWidth)
		} else {
			dst = append(dst, "; "...)
		}
		dst = f.appendPart(dst)
		n++
	}
	f.records = nil
	dst = f.begin(append(dst, ' '), styleFaint)
	dst = strconv.AppendUint(append(dst, '#'), ev.Serial, 10)
	return append(f.end(dst, styleFaint), '\n')
}

// hostOf is the host of an event: what its records name, or else what the collector knows
// of their sender.
func hostOf(ev *event.Event) []byte {
	switch {
	case len(ev.Node) > 0:
		return ev.Node
	case ev.From == nil:
		return nil
	case ev.From.Host != "":
		return []byte(ev.From.Host)
	case ev.From.Addr.IsValid():
		return ev.From.Addr.AppendTo(nil)
	}
	return nil
}

// begin and end enclose what has a colour.
func (f *lineFormat) begin(dst []byte, style string) []byte {
	if f.color {
		dst = append(dst, style...)
	}
	return dst
}

func (f *lineFormat) end(dst []byte, style string) []byte {
	if f.color && style != "" {
		dst = append(dst, styleReset...)
	}
	return dst
}

// padded appends blanks until what was appended since from is a column of that width, and
// one more.
func padded(dst []byte, from, width int) []byte {
	n := len(dst) - from
	if utf8.RuneCount(dst[from:]) != n {
		n = terminal.Width(string(dst[from:]))
	}
	for ; n < width; n++ {
		dst = append(dst, ' ')
	}
	return append(dst, ' ')
}

// appendPart appends what the records of one event tell, without who.
func (f *lineFormat) appendPart(dst []byte) []byte {
	f.bad = false
	from := len(dst)
	known := f.norm.Event(f.records, false)
	call := f.find(tables.Syscall)
	if call == nil {
		call = f.find(tables.URingOp)
	}
	main := call
	switch {
	case call != nil:
		dst = f.appendCall(dst, call)
	case known && len(f.records) == 1:
		main = &f.records[0]
		dst = f.appendRecord(dst, main, unknownOutcome)
	default:
		main = &f.records[0]
		dst = f.appendIncomplete(dst)
	}
	dst = f.appendTail(dst, main)
	if f.color && f.bad {
		f.value = append(f.value[:0], dst[from:]...)
		dst = append(append(append(dst[:from], styleBad...), f.value...), styleReset...)
	}
	return f.appendKeys(dst, main)
}

func (f *lineFormat) find(typ uint16) *record.Record {
	for i := range f.records {
		if f.records[i].Type == typ {
			return &f.records[i]
		}
	}
	return nil
}

// appendWho appends the login and, where it is another, the account that acts. A process
// that nobody logged in for is the system's; ? is a login that no record tells.
func (f *lineFormat) appendWho(dst []byte) []byte {
	r := f.find(tables.Login) // whose SYSCALL record has the new login already
	if r == nil {
		r = f.find(tables.Syscall)
	}
	if r == nil {
		r = &f.records[0]
		for i := range f.records {
			if _, ok := f.records[i].Get("auid"); ok {
				r = &f.records[i]
				break
			}
		}
	}
	if r.Type == tables.TrustedApp { // its fields have no meanings, but for those that the kernel wrote
		kernels := *r
		kernels.Type = tables.User
		r = &kernels
	}
	get := f.own
	if r.Type == tables.UserAVC { // of whom the program asks: itself only tells
		get = f.said
	}
	acting, hasActing := get(r, "euid")
	if !hasActing {
		acting, hasActing = get(r, "uid")
	}
	login, hasLogin := get(r, "old-auid")
	if r.Type != tables.Login || !hasLogin {
		login, hasLogin = get(r, "auid")
	}
	without := "? as "
	if hasLogin {
		if f.value = f.appendText(f.value[:0], r, &login); string(f.value) == "unset" {
			without, hasLogin = "system as ", false
		}
	}
	switch {
	case hasLogin && (!hasActing || bytes.Equal(login.Value, acting.Value)):
		return f.appendValue(dst, r, &login)
	case hasLogin:
		return f.appendValue(append(f.appendValue(dst, r, &login), " as "...), r, &acting)
	case hasActing:
		return f.appendValue(append(dst, without...), r, &acting)
	case without != "? as ":
		return append(dst, "system"...)
	}
	return append(dst, '-')
}

// own is a field of r itself that has a value.
func (*lineFormat) own(r *record.Record, name string) (record.Field, bool) {
	field, ok := r.Get(name)
	return field, ok && hasValue(&field)
}

// said is a field of what a program said or else of r itself, with a value.
func (f *lineFormat) said(r *record.Record, name string) (record.Field, bool) {
	fields := r.MsgFields()
	for field, ok := fields.Next(); ok; field, ok = fields.Next() {
		if string(field.Name) == name && hasValue(&field) {
			return field, true
		}
	}
	return f.own(r, name)
}

// hasValue says whether a field's value is more than a sign that there is none.
func hasValue(field *record.Field) bool {
	if field.Quote == '"' {
		return len(field.Value) > 0 && string(field.Value) != "?" && (string(field.Value) != "(none)" || string(field.Name) != "tty")
	}
	switch string(field.Value) {
	case "", "?", "(null)", "(none)", "<none>":
		return false
	}
	return true
}

// appendText appends what a field means, as it is.
func (f *lineFormat) appendText(dst []byte, r *record.Record, field *record.Field) []byte {
	switch interpret.KindOf(r.Type, field.Name) {
	case interpret.Escaped, interpret.Account, interpret.Key, interpret.Proctitle:
		return field.AppendDecoded(dst)
	case interpret.SockAddr:
		if addr, ok := interpret.ParseSocket(field.Value); ok {
			return addr.Append(dst)
		}
	}
	if field.Quote != 0 {
		return append(dst, field.Value...)
	}
	return f.in.AppendValue(dst, r, *field)
}

// appendValue appends what a field means, quoted.
func (f *lineFormat) appendValue(dst []byte, r *record.Record, field *record.Field) []byte {
	f.value = f.appendText(f.value[:0], r, field)
	switch interpret.KindOf(r.Type, field.Name) {
	case interpret.UserID, interpret.GroupID:
		if number, ok := bytes.CutPrefix(f.value, []byte("unknown(")); ok { // which has no name
			return appendQuoted(dst, bytes.TrimSuffix(number, []byte{')'}), longestValue)
		}
	case interpret.Key:
		return appendKeyList(dst, f.value)
	case interpret.TTYData, interpret.NetlinkGrp:
		return append(dst, terminalText(f.value)...)
	}
	return appendQuoted(dst, f.value, longestValue)
}
