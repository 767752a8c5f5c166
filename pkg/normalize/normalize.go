package normalize

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Accounts looks a user up by name. An implementation must not wait long for a network.
type Accounts interface {
	UserID(name string) (uint32, bool)
}

// Next splits the records of a logged event where the stock tool sees more than one
// event: a record whose type forms an event by itself ends the first one. first holds the
// records up to there, rest the remaining ones; an EOE record that would remain alone is
// dropped. Both slices share records' memory.
func Next(records []record.Record) (first, rest []record.Record) {
	for len(records) > 0 && records[0].Type == tables.EOE {
		records = records[1:]
	}
	for i := range records {
		if alone(records[i].Type) {
			return records[:i+1], withoutEOE(records[i+1:])
		}
	}
	return records, nil
}

func withoutEOE(records []record.Record) []record.Record {
	for len(records) > 0 && records[0].Type == tables.EOE {
		records = records[1:]
	}
	return records
}

// alone says whether a record of that type ends its event.
func alone(t uint16) bool {
	return t < tables.FirstEvent && t != tables.Login || t >= tables.FirstUserAnom || t == tables.Proctitle || t == tables.EOE ||
		t == tables.Kernel || t >= tables.MACUnlblAllow && t <= tables.MACCalipsoDel
}

// A Normalizer normalizes one event after the other. Its fields and the results of its
// methods describe the event of the last call of Event. They are valid until the next
// call, because the buffers are reused. One goroutine may use it.
type Normalizer struct {
	Kind        string // of the event
	SubjectKind string // "" is none
	ObjectKind  string
	Action      []byte // nil is unknown
	How         []byte // nil is none
	Session     Value
	Subject     Value
	Alias       Value // who the subject acts as
	Object      Value
	Detail      Value // of the object: a file's inode, a session's port
	Second      Value // object
	Result      Value
	Key         Value

	walk
	in        *interpret.Interpreter
	accounts  Accounts
	labels    bool
	outcome   int    // of the system call: 0 failed, 1 succeeded, -1 it does not say
	main      uint16 // the type of the record that says what was called
	pids      []Value
	subjAttrs []Value
	objAttrs  []Value
	action    []byte
	how       []byte
	scratch   []byte
}

// New returns a Normalizer that interprets values with in. Accounts may be nil; then an
// account of which only the name is known has an unknown kind.
func New(in *interpret.Interpreter, accounts Accounts) *Normalizer {
	return &Normalizer{in: in, accounts: accounts}
}

// SetAccounts has what follows normalized with other accounts; nil as in New.
func (n *Normalizer) SetAccounts(a Accounts) { n.accounts = a }

// Event normalizes an event; records must be the first result of Next. With labels it
// also finds the security labels, which changes the object of an AVC. It returns false
// when the records belong to a system call whose SYSCALL record is missing.
func (n *Normalizer) Event(records []record.Record, labels bool) bool {
	n.load(records)
	n.Kind, n.SubjectKind, n.ObjectKind = "", "", unknown
	n.Action, n.How, n.action, n.how = nil, nil, n.action[:0], n.how[:0]
	n.Session, n.Subject, n.Alias, n.Object = Value{}, Value{}, Value{}, Value{}
	n.Detail, n.Second, n.Result, n.Key = Value{}, Value{}, Value{}, Value{}
	n.subjAttrs, n.objAttrs = n.subjAttrs[:0], n.objAttrs[:0]
	n.labels, n.outcome, n.pids = labels, -1, n.pids[:0]
	if len(records) == 0 {
		return false
	}
	if len(records) > 1 || records[0].Type == tables.Syscall || records[0].Type == tables.URingOp {
		return n.call()
	}
	n.single(records[0].Type)
	return true
}

// AppendProcesses appends the numbers of the processes that a signal was sent to, with
// commas between them; nothing when the event is about something else.
func (n *Normalizer) AppendProcesses(dst []byte) []byte {
	for i, v := range n.pids {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = n.AppendText(dst, v)
	}
	return dst
}

// Name returns the name of the field at v.
func (n *Normalizer) Name(v Value) []byte {
	_, f, _ := n.at(v)
	return f.name
}

// Type returns the type of the record that v is in, 0 where there is none.
func (n *Normalizer) Type(v Value) uint16 {
	if r, _, ok := n.at(v); ok {
		return r.Type
	}
	return 0
}

// Raw returns the value at v as its record has it, with its quotes; nil where there is
// none.
func (n *Normalizer) Raw(v Value) []byte {
	_, f, _ := n.at(v)
	return f.value
}

// Has reports whether there is a value at v.
func (n *Normalizer) Has(v Value) bool {
	_, _, ok := n.at(v)
	return ok
}

// Is returns the kind of the value at v.
func (n *Normalizer) Is(v Value) interpret.Kind {
	if r, f, ok := n.at(v); ok {
		return interpret.KindOf(r.Type, f.name)
	}
	return interpret.Plain
}

// ID returns the user id at v; false when there is none, or what stands there is no id.
func (n *Normalizer) ID(v Value) (uint32, bool) {
	if _, f, ok := n.at(v); ok {
		return record.ID(unquoted(f.value))
	}
	return 0, false
}

// unquoted is a value without its quotes.
func unquoted(v []byte) []byte {
	if n := len(v); n > 1 && v[0] == '"' && v[n-1] == '"' {
		return v[1 : n-1]
	}
	return v
}

// AppendText appends the interpreted value at v to dst.
func (n *Normalizer) AppendText(dst []byte, v Value) []byte {
	r, f, ok := n.at(v)
	if !ok {
		return dst
	}
	if f.value == nil { // a key that cannot be read
		return n.in.AppendRaw(dst, r, f.name, unreadable)
	}
	return n.in.AppendRaw(dst, r, f.name, f.value)
}

// unreadable stands for a key that is neither quoted nor hex where a place in the
// event says it is something else, as in the stock tool.
var unreadable = []byte(" ")

// AppendFull appends the interpreted value at v to dst; it completes the name of a file
// to an absolute path.
func (n *Normalizer) AppendFull(dst []byte, v Value) []byte {
	r, f, ok := n.at(v)
	if !ok || string(f.name) != "name" || r.Type == tables.KernModule {
		return n.AppendText(dst, v)
	}
	return n.in.AppendPath(dst, f.value, n.cwd())
}

// cwd is the working directory as its record has it, nil when there is none.
func (n *Normalizer) cwd() []byte {
	for i := len(n.parts) - 1; i >= 0; i-- {
		p := &n.parts[i]
		if p.r.Type != tables.CWD {
			continue
		}
		for k := p.past - 1; k >= p.first; k-- {
			if string(n.fields[k].name) == "cwd" {
				return n.fields[k].value
			}
		}
	}
	return nil
}

// AppendNode appends the name of the event's host to dst as csv and text have it, or
// nothing when host is nil.
func (n *Normalizer) AppendNode(dst, host []byte) []byte {
	if len(n.parts) == 0 || host == nil {
		return dst
	}
	return n.in.AppendRaw(dst, n.parts[0].r, nodeName, host)
}

var nodeName = []byte("node")

// Outcome reports whether the event was a success; ok is false when the event has no
// result. Unlike Succeeded it takes what was granted for a success.
func (n *Normalizer) Outcome() (success, ok bool) {
	success, ok = n.Succeeded()
	return success || ok && string(n.scratch) == "granted", ok
}

// Succeeded reports whether the stock tool's words call the event a success; ok is false
// when the event has no result. They call an AVC that was granted a failure.
func (n *Normalizer) Succeeded() (success, ok bool) {
	if !n.Has(n.Result) {
		return false, false
	}
	n.scratch = n.AppendText(n.scratch[:0], n.Result)
	text := n.scratch
	return string(text) == "yes" || bytes.HasPrefix(text, []byte("suc")) ||
		string(text) == "allow" && n.Is(n.Result) == interpret.SeccompCode, true
}

// label is the first of values with that name. As long as all before it exist.
func (n *Normalizer) label(values []Value, name string) (Value, bool) {
	for _, v := range values {
		_, f, ok := n.at(v)
		if !ok {
			break
		}
		if string(f.name) == name {
			return v, true
		}
	}
	return Value{}, false
}

// SubjectLabel returns the security label of the subject. It is none unless Event looked
// for labels.
func (n *Normalizer) SubjectLabel() Value {
	v, _ := n.label(n.subjAttrs, "subj")
	return v
}

// ObjectLabel returns the security label of the object. It is none unless Event looked
// for labels.
func (n *Normalizer) ObjectLabel() Value {
	v, _ := n.label(n.objAttrs, "obj")
	return v
}

// number is C's strtol, cut to an int as it is used; -1 when it is out of range.
func number(s []byte) int32 {
	i := 0
	for i < len(s) && (s[i] == ' ' || s[i]-'\t' <= '\r'-'\t') {
		i++
	}
	neg := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		neg = s[i] == '-'
		i++
	}
	v := int64(0)
	for ; i < len(s) && s[i]-'0' <= 9; i++ {
		if v > (1<<63-1-9)/10 {
			return -1
		}
		v = v*10 + int64(s[i]-'0')
	}
	if neg {
		v = -v
	}
	return int32(v)
}

// named sets the action.
func (n *Normalizer) named(action string) {
	if action != "" {
		n.action = append(n.action[:0], action...)
		n.Action = n.action
	}
}

// byMeans sets how from the field the walk stands on.
func (n *Normalizer) byMeans() {
	n.how = n.AppendText(n.how[:0], n.here())
	n.How = n.how
}

// interpreters are programs that say little: what they run names itself in comm=.
var interpreters = [...]string{"/usr/bin/python", "/usr/bin/sh", "/usr/bin/bash", "/usr/bin/perl"}

func isInterpreter(exe []byte) bool {
	for _, p := range interpreters {
		if len(exe) >= len(p) && string(exe[:len(p)]) == p {
			return true
		}
	}
	return false
}

// toComm goes from an exe= to the comm= that should stand before it.
func (n *Normalizer) toComm() bool {
	if p := &n.parts[n.now]; p.at > p.first {
		p.at--
	} else {
		n.rewind()
	}
	_, ok := n.find("comm")
	return ok
}

// program sets how from exe=, or from the name of what an interpreter runs.
func (n *Normalizer) program() bool {
	if _, ok := n.find("exe"); !ok {
		return false
	}
	n.byMeans()
	if isInterpreter(n.How) && n.toComm() {
		n.byMeans()
	}
	return true
}

// Ids of accounts of one kind end here.
const (
	firstUser   = 1000
	firstNobody = 60000
	unset       = 1<<32 - 1
)

// who sets the subject's kind from the id or name the walk stands on.
func (n *Normalizer) who() {
	v := n.here()
	r, f, ok := n.at(v)
	if n.now >= len(n.parts) || !ok {
		n.SubjectKind = "unknown-acct"
		return
	}
	var id uint32
	switch kind := interpret.KindOf(r.Type, f.name); {
	case kind == interpret.UserID:
		if id, ok = record.ID(unquoted(f.value)); !ok {
			n.SubjectKind = "unknown-acct"
			return
		}
	case string(f.name) == "acct" && n.accounts != nil:
		n.scratch = n.AppendText(n.scratch[:0], v)
		if uid, ok := n.accounts.UserID(string(n.scratch)); ok {
			id = uid
		} else {
			n.SubjectKind = "unknown-acct"
			return
		}
	default:
		n.SubjectKind = "unknown-acct"
		return
	}
	switch {
	case id == 0:
		n.SubjectKind = "privileged-acct"
	case id == unset:
		n.SubjectKind = "unset-acct"
	case id < firstUser:
		n.SubjectKind = "service-acct"
	case id < firstNobody:
		n.SubjectKind = "user-acct"
	default:
		n.SubjectKind = "unknown-acct"
	}
}
