package query

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/record"
)

// Reports and searches do not take the same of every event: of two comm= in a
// program's words, ausearch finds the last and aureport shows the first. One reader
// serves both; wherever the two differ it asks differs. Summaries of reports are
// added up from an index, which has what a search takes, so an event in which a
// value that they count differs is marked (FieldOdd) and read instead.

// differs says whether what is read is for a report, at a place where a report takes
// something else if odd. It marks the event, so a report cannot get a value that
// differs from the index's without it. What no summary counts (an account, the
// architecture) needs no mark, and x.report alone decides.
func (x *Extractor) differs(odd bool) bool {
	x.it.odd = x.it.odd || odd
	return odd && x.report
}

// Report reads what aureport takes of an event, of those fields at least that are in
// need. What it took stays until the next event is read.
func (x *Extractor) Report(ev *event.Event, need FieldSet) {
	x.report, x.decisions = true, need.Has(FieldSubject)
	x.it.reported, x.it.decisions = x.it.reported[:0], x.it.decisions[:0]
	x.read(ev, need)
	x.report, x.decisions = false, false
}

// Text is a string that may be absent, which is not the same as empty.
type Text struct {
	B  []byte
	OK bool
}

func textOf(b []byte) Text { return Text{b, true} }

// Text is the value of a field that has one string: a host, say, or a program.
func (x *Extractor) Text(f Field) Text {
	if !x.it.set.Has(f) {
		return Text{}
	}
	return textOf(x.it.strs[f])
}

// Number is the value of a numeric field, and whether there is one. FieldSuccess is 1
// or 0, FieldArch an AUDIT_ARCH_* number.
func (x *Extractor) Number(f Field) (n int64, ok bool) { return x.it.nums[f], x.it.set.Has(f) }

// Keys are the keys of an event's rules, in order.
func (x *Extractor) Keys() [][]byte { return x.it.keys }

// File is a file's name, and whether its record says that it is the directory the
// file is in, and nothing behind that.
type File struct {
	Name   []byte
	Parent bool
}

// Files are those that Report read, in order.
func (x *Extractor) Files() []File { return x.it.reported }

// Decision is a security module's, or what another record contributes to the list
// that the stock tool keeps them in.
type Decision struct {
	Subject, Object, Class, Perm Text
	Result                       Result
}

// Result is what was decided.
type Result uint8

// Results.
const (
	Undecided Result = iota
	Denied
	Granted
)

// String is the result as reports say it.
func (r Result) String() string { return [...]string{"unset", "denied", "granted"}[r] }

// Decisions are those that Report read, in order, if FieldSubject was needed.
func (x *Extractor) Decisions() []Decision { return x.it.decisions }

// subject adds the security context of who did something.
func (x *Extractor) subject(v []byte) {
	x.it.subjects = append(x.it.subjects, v)
	if x.decisions {
		x.it.decisions = append(x.it.decisions, Decision{Subject: textOf(v)})
	}
}

// object adds the security context of what it was done to.
func (x *Extractor) object(v []byte) {
	x.it.objects = append(x.it.objects, v)
	if x.decisions {
		x.it.decisions = append(x.it.decisions, Decision{Object: textOf(v)})
	}
}

// userAVC reads the decision of an object manager in user space. Its subject is the
// manager.
func (x *Extractor) userAVC(r *record.Record) {
	var d Decision
	x.decide(&d, r.Body)
	before := len(x.it.decisions)
	x.user(ClassUserAVC, r)
	if !x.decisions {
		return
	}
	if f, ok := r.Get("subj"); ok {
		d.Subject = textOf(f.Value)
	}
	fields := r.MsgFields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch {
		case string(f.Name) == "tcontext" && !d.Object.OK:
			d.Object = textOf(f.Value)
		case string(f.Name) == "tclass" && !d.Class.OK:
			d.Class = textOf(f.Value)
		}
	}
	x.it.decisions = append(x.it.decisions[:before], d) // its subject is not one apart
}

// decide reads "avc:  denied  { read } for …", which has no name.
func (x *Extractor) decide(d *Decision, body []byte) {
	i := bytes.Index(body, []byte("avc: "))
	if i < 0 {
		return
	}
	body = body[i:]
	brace := bytes.IndexByte(body, '{')
	if brace < 0 {
		return
	}
	x.decided(d, bytes.Contains(body[:brace], []byte("denied")))
	perm := bytes.TrimLeft(body[brace+1:], " ")
	if end := bytes.IndexByte(perm, '}'); end >= 0 {
		d.Perm = textOf(bytes.TrimRight(perm[:end], " "))
	}
}

func (x *Extractor) decided(d *Decision, denied bool) {
	d.Result = Granted
	if denied {
		d.Result = Denied
	}
	x.it.num(FieldSuccess, int64(b2i(!denied)))
}

// apparmor reads what stands for SELinux's words in a record of AppArmor. A search
// takes none of it.
func (x *Extractor) apparmor(d *Decision, f record.Field) {
	switch string(f.Name) {
	case "apparmor":
		switch {
		case !x.differs(true):
		case string(f.Value) == "DENIED":
			x.decided(d, true)
		case string(f.Value) == "ALLOWED", string(f.Value) == "AUDIT":
			x.decided(d, false)
		}
	case "profile":
		d.Subject = textOf(f.Value)
	case "class":
		d.Class = textOf(f.Value)
	case "denied_mask", "requested_mask":
		if !d.Perm.OK || string(f.Name) == "denied_mask" {
			d.Perm = textOf(f.Value)
		}
	}
}

// endsInParent says whether nametype=PARENT, objtype=PARENT in older kernels, is
// the last of a PATH record. Newer kernels write capabilities behind it, and then
// the stock tool does not know the directory for what it is.
func endsInParent(body []byte) bool { return bytes.HasSuffix(body, []byte("type=PARENT")) }

// noIDs are those of some ids that are set to what aureport takes for none.
func (it *items) noIDs(of FieldSet) (none FieldSet) {
	for _, id := range [...]struct {
		f Field
		n int32
	}{{FieldPID, -1}, {FieldUID, -1}, {FieldAUID, -2}, {FieldSession, -2}} {
		if of.Has(id.f) && it.set.Has(id.f) && int32(it.nums[id.f]) == id.n {
			none |= 1 << id.f
		}
	}
	return none
}
