package report

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
	"github.com/auditfleet/auditfleet/pkg/terminal"
)

// cell is one column of a report's lines.
type cell struct {
	// put appends the value, false when the event has none.
	put    func(p *printer, f *facts, dst []byte) ([]byte, bool)
	absent string
	escape bool // what a program could choose

	name string // of the column in csv, JSON and tables
	kind kind
	lack func(f *facts) bool // the event has no value, though put writes something
}

// kind says what a column of csv, JSON and tables holds.
type kind uint8

const (
	words  kind = iota
	number      // in JSON, too
	ids         // a number, or its name with -i
)

const (
	question = "?"
	null     = "(null)" // what C's printf makes of no string at all
)

// append appends the cell.
func (c *cell) append(p *printer, f *facts, dst []byte) []byte {
	from := len(dst)
	dst, ok := c.put(p, f, dst)
	if !ok {
		dst = append(dst[:from], c.absent...)
		if c.absent == null {
			return dst
		}
	}
	if c.escape {
		dst = p.escapeFrom(dst, from)
	}
	if p.o.people {
		p.scratch = append(p.scratch[:0], dst[from:]...)
		dst = terminal.AppendClean(dst[:from], p.scratch)
	}
	return dst
}

// escapeFrom escapes what was appended to dst since from.
func (p *printer) escapeFrom(dst []byte, from int) []byte {
	for _, c := range dst[from:] {
		if c < ' ' || p.o.Escape >= interpret.EscapeShell {
			p.scratch = append(p.scratch[:0], dst[from:]...)
			return interpret.AppendEscaped(dst[:from], p.scratch, p.o.Escape)
		}
	}
	return dst
}

func str(name string, get func(*facts) query.Text, absent string, escape bool) cell {
	return cell{name: name, absent: absent, escape: escape, put: func(_ *printer, f *facts, dst []byte) ([]byte, bool) {
		t := get(f)
		return append(dst, t.B...), t.OK
	}}
}

func put(name string, kind kind, fn func(p *printer, f *facts, dst []byte) []byte, lack func(*facts) bool) cell {
	return cell{name: name, kind: kind, lack: lack, put: func(p *printer, f *facts, dst []byte) ([]byte, bool) { return fn(p, f, dst), true }}
}

// escaped marks a column that a program could choose.
func (c cell) escaped() cell {
	c.escape = true
	return c
}

func hostText(f *facts) query.Text { return f.host }
func termText(f *facts) query.Text { return f.term }
func exeText(f *facts) query.Text  { return f.exe }
func commText(f *facts) query.Text { return f.comm }

func acctText(f *facts) query.Text { return f.acct }

func noUser(f *facts) bool   { return f.auid == noAUID }
func noCall(f *facts) bool   { return !f.hasCall || f.call < 0 }
func noResult(f *facts) bool { return f.outcome == unknown }

// The columns. A name that ends in Q has a question mark where there is no value,
// one in E is escaped.
var (
	host      = str("host", hostText, null, false)
	hostQ     = str("host", hostText, question, false)
	term      = str("terminal", termText, null, false)
	termQ     = str("terminal", termText, question, false)
	exe       = str("exe", exeText, null, true)
	exeQ      = str("exe", exeText, question, true)
	exePlain  = str("exe", exeText, null, false)
	exePlainQ = str("exe", exeText, question, false)
	commQ     = str("comm", commText, question, true)
	acctQ     = str("acct", acctText, question, false)
	exeOrComm = str("exe", func(f *facts) query.Text {
		if f.exe.OK {
			return f.exe
		}
		return f.comm
	}, question, true)
	key = str("key", func(f *facts) query.Text { return query.Text{B: f.keys[0], OK: true} }, null, false)

	serial  = put("event", number, func(_ *printer, f *facts, dst []byte) []byte { return strconv.AppendUint(dst, f.ev.Serial, 10) }, nil)
	success = put("success", words, func(_ *printer, f *facts, dst []byte) []byte { return append(dst, f.outcome.String()...) }, noResult)
	pid     = put("pid", number, func(_ *printer, f *facts, dst []byte) []byte {
		return strconv.AppendUint(dst, uint64(uint32(f.pid)), 10)
	}, func(f *facts) bool { return f.pid == noID })
	session = put("ses", ids, (*printer).appendSession, func(f *facts) bool { return f.session == noSess })
	syscall = put("syscall", ids, (*printer).appendSyscall, noCall)
	auid    = put("auid", ids, (*printer).appendAUID, noUser)
	auidE   = auid.escaped()

	typeName = put("type", words, func(_ *printer, f *facts, dst []byte) []byte {
		if f.firstRecord.TypeName != nil {
			return append(dst, f.firstRecord.TypeName...)
		}
		return append(dst, null...)
	}, func(f *facts) bool { return f.firstRecord.TypeName == nil })
	fileName = put("file", words, func(_ *printer, f *facts, dst []byte) []byte { return append(dst, f.mainFile()...) }, nil).escaped()
	ttyData  = put("data", words, (*printer).appendTTY, func(f *facts) bool { return !bytes.Contains(f.firstRecord.Body, []byte("data=")) })

	subject = str("subject", func(f *facts) query.Text { return f.avcs[f.row].Subject }, null, false)
	object  = str("object", func(f *facts) query.Text { return f.avcs[f.row].Object }, null, false)
	decided = str("class", func(f *facts) query.Text { return f.avcs[f.row].Class }, null, false)
	perm    = str("permission", func(f *facts) query.Text { return f.avcs[f.row].Perm }, null, false)
	result  = put("result", words, func(_ *printer, f *facts, dst []byte) []byte { return append(dst, f.avcs[f.row].Result.String()...) },
		func(f *facts) bool { return f.avcs[f.row].Result == query.Undecided })

	// A login is whose account it is about; where the kernel knows no user yet,
	// as in failed ones, only the program's word for it is there.
	acctOrUID = put("acct", words, func(p *printer, f *facts, dst []byte) []byte {
		if f.acct.OK {
			return append(dst, f.acct.B...)
		}
		return p.appendUser(dst, f, f.uid, "UID")
	}, func(f *facts) bool { return !f.acct.OK && f.uid == noID }).escaped()
	acctOrAUID = put("acct", words, func(p *printer, f *facts, dst []byte) []byte {
		if f.outcome == failed && f.acct.OK {
			return append(dst, f.acct.B...)
		}
		return p.appendAUID(f, dst)
	}, func(f *facts) bool { return f.auid == noAUID && (f.outcome != failed || !f.acct.OK) }).escaped()
)

// mainFile is the first file that is not the directory of another.
func (x *facts) mainFile() []byte {
	if len(x.files) == 1 {
		return x.files[0].Name
	}
	for i := range x.files {
		if !x.files[i].Parent {
			return x.files[i].Name
		}
	}
	return nil
}

// nextDecision returns the place of the first decision at or behind from, -1 when
// there is none. Where nothing was decided (a policy was loaded, say) the last in
// the list is shown.
func (x *facts) nextDecision(from int) int {
	for i := from; i < len(x.avcs); i++ {
		if x.avcs[i].Result != query.Undecided {
			return i
		}
	}
	if from == 0 {
		return len(x.avcs) - 1
	}
	return -1
}

// tail is the enriched tail that speaks for the event.
func (x *facts) tail() *record.Record { return query.TailOf(x.ev) }

// appendTail appends what the tail says of name, in capitals.
func (x *facts) appendTail(dst []byte, name string) ([]byte, bool) {
	r := x.tail()
	if r == nil {
		return dst, false
	}
	fields := r.EnrichedFields()
	for {
		f, ok := fields.Next()
		if !ok {
			return dst, false
		}
		if string(f.Name) == name {
			return f.AppendDecoded(dst), true
		}
	}
}

func (p *printer) appendAUID(f *facts, dst []byte) []byte {
	return p.appendUser(dst, f, f.auid, "AUID")
}

// appendUser appends a user's number, or the name of -i: the tail's, which says
// whom the host meant, before this machine's.
func (p *printer) appendUser(dst []byte, f *facts, uid int64, tail string) []byte {
	switch {
	case !p.o.Interpret && uid == unsetID && p.o.Format != FormatStock:
		return strconv.AppendUint(dst, query.UnsetID, 10)
	case !p.o.Interpret:
		return strconv.AppendInt(dst, uid, 10)
	}
	named, told := f.appendTail(f.named[:0], tail)
	f.named = named
	return p.appendLogin(dst, uid, named, told)
}

// appendLogin appends what -i calls a user: what the event calls it, where it does.
func (p *printer) appendLogin(dst []byte, uid int64, named []byte, told bool) []byte {
	if uid == unsetID || !told {
		return p.appendNamed(dst, uid)
	}
	if id, ok := unknownID(string(named)); ok {
		return append(append(append(dst, unknownTo...), id...), ')')
	}
	return append(dst, named...)
}

// appendNamed appends what -i calls a user of whom the event has no name.
func (p *printer) appendNamed(dst []byte, uid int64) []byte {
	if uid == unsetID {
		return append(dst, unset...)
	}
	if name, ok := p.names.User(uint32(uid)); ok && uid != noAUID {
		return append(dst, name...)
	}
	return append(strconv.AppendInt(append(dst, unknownTo...), uid, 10), ')')
}

// unknownTo begins what daemons write into the tail for an id that has no name. Stock ones
// write an id from 2^31 on as a negative number.
const unknownTo = "unknown("

// unknownID returns the id in unknown(1000), where a host calls an id so.
func unknownID(name string) (id string, ok bool) {
	text, opened := strings.CutPrefix(name, unknownTo)
	text, closed := strings.CutSuffix(text, ")")
	n, err := strconv.ParseInt(text, 10, 64)
	if !opened || !closed || err != nil || n < -1<<31 || n >= 1<<32 {
		return "", false
	}
	return strconv.FormatUint(uint64(uint32(n)), 10), true
}

// unset is the name of an id that was never set.
const unset = "unset"

// appendSession appends a session's number; aureport knows no names of sessions.
func (p *printer) appendSession(f *facts, dst []byte) []byte {
	if f.session == query.UnsetID && p.o.Interpret && p.o.Format != FormatStock {
		return append(dst, unset...)
	}
	return strconv.AppendUint(dst, uint64(f.session), 10)
}

// appendSyscall appends a system call's number, 0 where there is none, or its name.
func (p *printer) appendSyscall(f *facts, dst []byte) []byte {
	if !p.o.Interpret {
		return strconv.AppendInt(dst, int64(f.call), 10)
	}
	named, known := f.appendCallName(dst)
	if !known {
		return append(dst, question...)
	}
	return named
}

// unknownCall begins what a host writes into the tail for a system call that has no name
// there. It may have one here.
var unknownCall = []byte("unknown-syscall(")

// appendCallName appends the name of the event's system call.
func (x *facts) appendCallName(dst []byte) (_ []byte, known bool) {
	var told bool
	x.named, told = x.appendTail(x.named[:0], "SYSCALL")
	return appendCallName(dst, &query.Call{Arch: x.arch, Number: x.call, Named: x.named, Told: told})
}

// appendCallName appends the name of a system call: the tail's, which says what
// the host meant, before that of the tables for its architecture, and its number where it
// has no name. known is false for an architecture that nobody knows.
func appendCallName(dst []byte, c *query.Call) (_ []byte, known bool) {
	if c.Told && !bytes.HasPrefix(c.Named, unknownCall) {
		return append(dst, c.Named...), true
	}
	if name, ok := tables.SyscallName(c.Arch, int(c.Number)); ok {
		return append(dst, name...), true
	}
	if c.Told {
		return append(dst, c.Named...), true
	}
	_, known = tables.ArchName(c.Arch)
	return strconv.AppendInt(dst, int64(c.Number), 10), known
}

// appendTTY appends what was typed, its keys by name.
func (p *printer) appendTTY(f *facts, dst []byte) []byte {
	body := f.firstRecord.Body
	i := bytes.Index(body, []byte("data="))
	if i < 0 {
		return append(dst, question...)
	}
	data := body[i+len("data="):]
	if i := bytes.LastIndexByte(data, ' '); i >= 0 {
		data = data[:i]
	}
	return p.appendTyped(dst, f.firstRecord, data)
}
