package report

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// readUser reads what a program sent: the kernel's words about the sender, then
// the program's own.
func (x *facts) readUser(r *record.Record) {
	fields := r.Fields()
	var msg claim
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid", "uid", "auid", "loginuid", "ses", "subj":
			x.task(f)
		default:
			x.claim(&msg, r.Type, f)
		}
	}
	x.claims(&msg, r)
}

// claim is what was found of a program's words: the first of each counts.
type claim struct {
	host, addr text
	acct, term bool
	comm, exe  bool
	cwd, res   bool
}

// claims reads the fields nested in msg='…'.
func (x *facts) claims(c *claim, r *record.Record) {
	fields := r.MsgFields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "hostname":
			if !c.host.ok {
				c.host = textOf(f.Value)
			}
		case "addr":
			if !c.addr.ok {
				c.addr = textOf(f.Value)
			}
		default:
			x.claim(c, r.Type, f)
		}
	}
	if !c.host.ok {
		return
	}
	if string(c.host.b) == "?" && c.addr.ok {
		c.host = c.addr
	}
	x.hostname(c.host.b)
}

// claim reads one field of a program's own words.
func (x *facts) claim(c *claim, typ uint16, f record.Field) {
	first := func(seen *bool) bool {
		was := *seen
		*seen = true
		return !was
	}
	switch string(f.Name) {
	case "uid": // of the user that a login is about
		x.user(f.Value)
	case "acct":
		if first(&c.acct) {
			x.acct = textOf(x.decoded(f))
		}
	case "comm":
		if first(&c.comm) {
			x.command(f)
		}
	case "exe":
		if first(&c.exe) {
			x.program(f)
		}
	case "terminal":
		if first(&c.term) {
			x.terminal(f.Value)
		}
	case "cwd":
		if first(&c.cwd) && x.want.has(wantFile) {
			x.cwd = textOf(x.decoded(f))
		}
	case "path", "new-disk":
		if typ == tables.VirtResource && x.want.has(wantFile) {
			x.file(f, false)
		}
	case "vm-ctx":
		if typ == tables.VirtMachineID {
			x.subject(f.Value)
		}
	case "img-ctx":
		if typ == tables.VirtMachineID {
			x.object(f.Value)
		}
	case "res":
		if first(&c.res) {
			x.word(f.Value)
		}
	case "result":
		if first(&c.res) {
			x.outcome = failed
			if bytes.EqualFold(f.Value, []byte("success")) {
				x.outcome = succeeded
			}
		}
	}
}

// readUserAVC reads the decision of an object manager in user space. Its subject
// is the manager.
func (x *facts) readUserAVC(r *record.Record) {
	var a avc
	x.decide(&a, r.Body)
	keep := x.avcs
	x.readUser(r)
	if !x.want.has(wantAVC) {
		return
	}
	x.avcs = keep // the subject is part of the decision
	if f, ok := r.Get("subj"); ok {
		a.subject = textOf(f.Value)
	}
	fields := r.MsgFields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "tcontext":
			if !a.object.ok {
				a.object = textOf(f.Value)
			}
		case "tclass":
			if !a.class.ok {
				a.class = textOf(f.Value)
			}
		}
	}
	x.avcs = append(x.avcs, a)
}

// decide reads "avc:  denied  { read } for …", which has no name.
func (x *facts) decide(a *avc, body []byte) {
	i := bytes.Index(body, []byte("avc: "))
	if i < 0 {
		return
	}
	body = body[i:]
	brace := bytes.IndexByte(body, '{')
	if brace < 0 {
		return
	}
	a.result, x.outcome = granted, succeeded
	if bytes.Contains(body[:brace], []byte("denied")) {
		a.result, x.outcome = denied, failed
	}
	perm := bytes.TrimLeft(body[brace+1:], " ")
	if end := bytes.IndexByte(perm, '}'); end >= 0 {
		a.perm = textOf(bytes.TrimRight(perm[:end], " "))
	}
}

// readAVC reads a kernel security module's decision: SELinux's, or one that says
// what it decided in fields, as AppArmor does.
func (x *facts) readAVC(r *record.Record) {
	var a avc
	x.decide(&a, r.Body)
	var name, path record.Field
	hasName, hasPath := false, false
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid":
			x.process(f.Value)
		case "comm":
			if !x.comm.ok {
				x.command(f)
			}
		case "path":
			if !hasPath {
				path, hasPath = f, true
			}
		case "name":
			if !hasName {
				name, hasName = f, true
			}
		case "scontext":
			a.subject = textOf(f.Value)
		case "tcontext":
			a.object = textOf(f.Value)
		case "tclass":
			a.class = textOf(f.Value)
		default:
			x.apparmor(&a, f)
		}
	}
	if x.want.has(wantFile) {
		if hasPath {
			x.file(path, false)
		} else if hasName {
			x.file(name, false)
		}
	}
	if x.want.has(wantAVC) {
		x.avcs = append(x.avcs, a)
	}
}

// apparmor reads what stands for SELinux's words in an AppArmor record.
func (x *facts) apparmor(a *avc, f record.Field) {
	switch string(f.Name) {
	case "apparmor":
		switch string(f.Value) {
		case "DENIED":
			a.result, x.outcome = denied, failed
		case "ALLOWED", "AUDIT":
			a.result, x.outcome = granted, succeeded
		}
	case "profile":
		a.subject = textOf(f.Value)
	case "class":
		a.class = textOf(f.Value)
	case "denied_mask", "requested_mask":
		if !a.perm.ok || string(f.Name) == "denied_mask" {
			a.perm = textOf(f.Value)
		}
	}
}

// readLogin reads LOGIN: "old auid=… new auid=…" until Linux 3.13, "old-auid=…
// auid=…" since. Old kernels say no result: it was always set.
func (x *facts) readLogin(r *record.Record) {
	x.outcome = succeeded
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "pid", "uid", "auid", "loginuid", "ses", "subj":
			x.task(f) // the new ids come last
		case "res":
			x.flag(f.Value)
		}
	}
}

func (x *facts) readDaemon(r *record.Record) {
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "auid", "pid", "uid", "ses", "subj":
			x.task(f)
		case "res":
			x.word(f.Value)
		}
	}
}

func (x *facts) readPeer(r *record.Record) {
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "addr":
			x.hostname(withoutPort(f.Value))
		case "res":
			x.word(f.Value)
		}
	}
}

// withoutPort cuts the port off 192.0.2.1:60; an IPv6 address stays whole.
func withoutPort(v []byte) []byte {
	if i := bytes.IndexByte(v, ':'); i >= 0 && bytes.IndexByte(v[i+1:], ':') < 0 {
		return v[:i]
	}
	return v
}

// readConfig reads CONFIG_CHANGE, which succeeded unless it says otherwise, and
// the records of label and policy changes.
func (x *facts) readConfig(r *record.Record) {
	if r.Type == tables.ConfigChange {
		x.outcome = succeeded
	}
	fields := r.Fields()
	for f, ok := fields.Next(); ok; f, ok = fields.Next() {
		switch string(f.Name) {
		case "auid", "ses", "subj":
			x.task(f)
		case "key":
			if x.want.has(wantKey) {
				x.key(f)
			}
		case "path":
			if r.Type == tables.ConfigChange && x.want.has(wantFile) {
				x.file(f, false)
			}
		case "res":
			x.flag(f.Value)
		}
	}
}
