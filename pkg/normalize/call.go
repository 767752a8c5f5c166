package normalize

import (
	"bytes"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// call reads an event that is about a system call or, without one, about an io_uring
// operation; false when the record of neither is there.
func (n *Normalizer) call() bool {
	typ := n.parts[0].r.Type
	n.main = tables.Syscall
	if !n.walkTo(n.main) {
		n.main = tables.URingOp
		if n.rewind(); !n.walkTo(n.main) {
			return false
		}
	}
	n.Kind = eventKind(typ)
	main := n.number()
	name := n.callName()

	if v, ok := n.find("success"); ok {
		n.outcome = 1
		if string(v) == "no" {
			n.outcome = 0
		}
		n.Result = n.walk.in(main)
	} else {
		n.jump(main)
	}
	if _, ok := n.find("auid"); ok {
		n.Subject = n.walk.in(main)
	} else {
		n.jump(main)
	}
	if _, ok := n.find("uid"); ok {
		n.Alias = n.walk.in(main)
		n.who()
	} else {
		n.jump(main)
	}
	if n.main == tables.URingOp {
		n.Subject = n.Alias // its record has no login id
	}
	n.callerAttrs(main)
	n.first()
	if !n.program() {
		n.jump(main)
	}
	if n.main == tables.URingOp && n.How == nil {
		n.how = append(n.how[:0], "io_uring"...)
		n.How = n.how
	}
	if key, ok := n.find("key"); ok && string(key) != "(null)" {
		n.Key = n.walk.in(main)
	}
	switch typ {
	case tables.AnomLink:
		n.named(actions[typ])
	case tables.ConfigChange:
		n.rewind()
		if _, ok := n.find("op"); ok {
			n.action = n.AppendText(n.action[:0], n.here())
			n.Action = n.action
			n.ObjectKind = kindAudit
			n.Object = n.changedSetting()
		}
	default:
		n.callObject(name)
	}
	return true
}

// walkTo goes on to a record of type typ; false when there is none.
func (n *Normalizer) walkTo(typ uint16) bool {
	for n.typ() != typ {
		if !n.step() {
			return false
		}
	}
	return true
}

// callName is the name of what was called, valid until n.scratch is used. What a process
// had done by entering its ring is the operation, where it is one.
func (n *Normalizer) callName() string {
	if _, ok := n.find(callFields[n.main == tables.URingOp]); !ok {
		return ""
	}
	n.scratch = n.AppendText(n.scratch[:0], n.here())
	if string(n.scratch) == "io_uring_enter" {
		n.operation()
	}
	if c, ok := calls[string(n.scratch)]; ok {
		return c.name
	}
	return ""
}

var callFields = map[bool]string{false: "syscall", true: "uring_op"}

// operation puts the name of the event's io_uring operation into n.scratch, if there is one
// such record. The walk stays where it is.
func (n *Normalizer) operation() {
	ops := 0
	for i := range n.parts {
		p := &n.parts[i]
		for k := p.first; p.r.Type == tables.URingOp && k < p.past; k++ {
			if string(n.fields[k].name) == "uring_op" {
				n.scratch = n.in.AppendRaw(n.scratch[:0], p.r, n.fields[k].name, n.fields[k].value)
				ops++
			}
		}
	}
	if ops != 1 {
		n.scratch = n.scratch[:0]
	}
}

// callerIDs are the fields of a SYSCALL record that describe the caller and come before
// its session and its label.
var callerIDs = [...]string{"ppid", "pid", "gid", "euid", "suid", "fsuid", "egid", "sgid", "fsgid", "tty"}

// callerAttrs finds the session and, with labels, what else the record says of
// who called.
func (n *Normalizer) callerAttrs(main int) {
	n.rewind()
	n.walkTo(n.main)
	if n.labels {
		for _, name := range callerIDs {
			n.addAttr(&n.subjAttrs, name, main)
		}
	}
	n.findSession(main)
	if n.labels {
		n.addAttr(&n.subjAttrs, "subj", main)
	}
}

// besides is what a record beside the SYSCALL says was done, more than the call's
// name does.
func besides(typ uint16) bool {
	switch typ {
	case tables.AVC, tables.SelinuxErr, tables.NetfilterCfg, tables.AnomPromiscuous, tables.KernModule, tables.MACPolicyLoad,
		tables.MACStatus, tables.MACConfigChange, tables.Fanotify, timeInjOffset, timeAdjNTPVal, tables.BPF, tables.EventListener:
		return true
	}
	return false
}

const (
	timeInjOffset uint16 = 1332
	timeAdjNTPVal uint16 = 1333
)

// callObject finds the action and the objects: of the first record that says more
// than the call, or of the call.
func (n *Normalizer) callObject(name string) {
	n.rewind()
	for n.typ() != 0 || n.now < len(n.parts) {
		if besides(n.typ()) {
			break
		}
		n.step()
	}
	typ := n.typ()
	if n.special(typ) {
		return
	}
	if c, ok := calls[name]; ok {
		n.objectOf(c)
	} else if n.main == tables.URingOp {
		n.named(actions[tables.URingOp])
	} else {
		n.rule()
	}
	switch typ {
	case tables.AVC:
		n.named(actions[tables.AVC])
	case tables.Fanotify:
		n.named(actions[tables.Fanotify])
	}
}

// rule is what is left to say: which rule wanted the event.
func (n *Normalizer) rule() {
	n.ObjectKind = kindRule
	n.rewind()
	if key, ok := n.find("key"); ok && string(key) != "(null)" {
		n.named("triggered-audit-rule")
		n.Object = n.here()
	} else {
		n.named("triggered-unknown-audit-rule")
	}
}

// special reads the record that says more; false when the call is to be looked at.
// The walk stands on it.
func (n *Normalizer) special(typ uint16) bool {
	found := func(field string) bool {
		_, ok := n.find(field)
		if ok {
			n.Object = n.here()
		}
		return ok
	}
	switch typ {
	case tables.SelinuxErr:
		n.named("caused-mac-policy-error")
		n.ObjectKind = kindSystem
	case tables.NetfilterCfg:
		n.named(firewallAction)
		n.rewind()
		found("table")
		n.ObjectKind = kindFirewall
	case tables.AnomPromiscuous:
		n.rewind()
		found("dev")
		if v, ok := n.find("prom"); ok {
			if number(v) == 0 {
				n.named("left-promiscuous-mode-on-device")
			} else {
				n.named("entered-promiscuous-mode-on-device")
			}
		}
		n.ObjectKind = kindSocket
	case tables.KernModule:
		n.objectOf(&callEntry{callClass: load})
	case tables.MACPolicyLoad:
		n.named(actions[typ])
		n.ObjectKind = kindMAC
	case tables.MACStatus:
		n.named(actions[typ])
		found("enforcing")
		n.ObjectKind = kindMAC
	case tables.MACConfigChange:
		n.named(actions[typ])
		found("bool")
		n.ObjectKind = kindMAC
	case timeInjOffset, timeAdjNTPVal:
		n.named(clock.action)
		n.ObjectKind = kindSystem
	case tables.BPF:
		n.rewind()
		n.bpfAction()
		n.ObjectKind = kindProcess
		n.programObject()
	case tables.EventListener:
		n.rewind()
		n.listenerAction()
		n.ObjectKind = kindSocket
		n.programObject()
	default:
		return false
	}
	return true
}

// programObject makes the program the object, or what stands for it.
func (n *Normalizer) programObject() {
	n.rewind()
	switch n.typ() {
	case tables.BPF:
		if _, ok := n.find("prog-id"); ok {
			n.Object = n.here()
		}
		return
	case tables.EventListener:
		if _, ok := n.find("nl-mcgrp"); ok {
			n.Object = n.here()
		}
		return
	}
	if _, ok := n.find("exe"); !ok {
		return
	}
	n.scratch = n.AppendText(n.scratch[:0], n.here())
	if isInterpreter(n.scratch) {
		n.toComm()
	}
	n.Object = n.here()
}

// objectOf finds the objects of a system call.
func (n *Normalizer) objectOf(c *callEntry) {
	n.ObjectKind = c.kind
	n.named(c.action)
	switch c.read {
	case readFile:
		n.argument(c)
		if c.second > 0 && c.second < c.object {
			n.secondFile(c.second)
		}
		n.file(c.object)
		if c.fixed {
			n.ObjectKind = c.kind
		}
		n.fileAttrs()
		// A new name is looked for last: a place behind it would have the old one looked for from there.
		if c.second > c.object {
			n.secondFile(c.second)
		}
	case readMount:
		if n.outcome == 1 {
			n.secondFile(c.second)
		}
		n.file(2 + n.outcome)
		n.pathAttrs()
	case readPeer:
		n.jump(1)
		n.first()
		if _, ok := n.find("saddr"); ok {
			n.Object = n.walk.in(1)
		}
	case readKill:
		if n.killed(); len(n.pids) > 1 {
			n.named("killed-list-of-pids")
			n.ObjectKind = kindProcesses
		}
	case readModule:
		n.jump(1)
		if _, ok := n.find("name"); ok {
			n.Object = n.walk.in(1)
		}
	case readIDs, readProgram:
		n.programObject()
		if n.How != nil {
			n.how = append(n.how[:0], c.name...)
			n.How = n.how
		}
		n.newID(c.ids)
	case readNode:
		n.node(c)
	case readMemory:
		if n.outcome == 1 {
			n.named("allocated-memory-in")
			n.rewind()
			if _, ok := n.find("comm"); ok {
				n.Object = n.here()
			}
		}
	}
}

// killed finds the processes that were sent a signal: each has a record.
func (n *Normalizer) killed() {
	for i := range n.parts {
		p := &n.parts[i]
		for k := p.first; p.r.Type == tables.ObjPID && k < p.past; k++ {
			if string(n.fields[k].name) == "opid" {
				n.pids = append(n.pids, Value{set: true, record: i, field: k - p.first})
				break
			}
		}
	}
}

// node is a device; its action depends on which.
func (n *Normalizer) node(c *callEntry) {
	n.ObjectKind = unknown
	n.file(c.object)
	n.fileAttrs()
	switch n.ObjectKind {
	case kindChar:
		n.named("made-character-device")
	case kindBlock:
		n.named("made-block-device")
	}
}

// argument makes an argument of a call the second object: a mode or an owner.
func (n *Normalizer) argument(c *callEntry) {
	if c.arg == "" {
		return
	}
	n.rewind()
	v, ok := n.find(c.arg)
	if !ok {
		return
	}
	if c.callClass.action == chown.action && number(v) == -1 { // only the group is changed
		if p := &n.parts[n.now]; p.at+1 < p.past {
			p.at++
		}
	}
	n.Second = n.in0()
}

// newID makes the first of a call's ids that changes one the second object.
func (n *Normalizer) newID(ids int) {
	if ids == 0 {
		return
	}
	n.rewind()
	if _, ok := n.find("a0"); !ok {
		return
	}
	for i := 1; i <= ids; i++ {
		n.scratch = n.AppendText(n.scratch[:0], n.here())
		if string(n.scratch) != "unset" {
			break
		}
		p := &n.parts[n.now]
		if i == ids || p.at+1 >= p.past {
			return
		}
		p.at++
	}
	n.Second = n.in0()
}

// secondFile makes the name in record i the second object.
func (n *Normalizer) secondFile(i int) {
	n.jump(i)
	n.first()
	if _, ok := n.find("name"); ok {
		n.Second = n.walk.in(i)
	}
}

// file makes what record i names the object, or what the first record behind it
// names that is no parent directory; or the parent when there is nothing else.
func (n *Normalizer) file(i int) {
	n.jump(i)
	n.first()
	parent := 0
	var kind []byte
	var found bool
	for {
		kind, found = n.find("nametype")
		if !found || string(kind) != "PARENT" {
			break
		}
		if parent == 0 {
			parent = n.number()
		}
		if !n.step() {
			break
		}
	}
	at := n.number()
	if !found {
		if parent == 0 {
			return
		}
		n.jump(parent)
		at = parent
	}
	if n.typ() != tables.Path {
		return
	}
	n.first()
	if _, ok := n.find("name"); ok {
		n.Object = n.walk.in(at)
	}
	if _, ok := n.find("inode"); ok {
		n.Detail = n.walk.in(at)
	}
	if mode, ok := n.find("mode"); ok {
		if kind := modeKinds[octal(mode)>>12&0xf]; kind != "" {
			n.ObjectKind = kind
		}
	}
}

// octal is C's strtoul with base 8, 0 when it is out of range.
func octal(s []byte) uint64 {
	s = bytes.TrimLeft(s, " ")
	v := uint64(0)
	for _, c := range s {
		if c-'0' > 7 {
			break
		}
		if v >= 1<<61 {
			return 0
		}
		v = v<<3 | uint64(c-'0')
	}
	return v
}

// fileAttrs finds what else is said of the object.
func (n *Normalizer) fileAttrs() {
	if !n.labels {
		return
	}
	n.rewind()
	parent := 0
	for {
		switch n.typ() {
		case tables.Path:
			if kind, ok := n.find("nametype"); !ok || string(kind) != "PARENT" {
				n.pathAttrs()
				return
			}
			if parent == 0 {
				parent = n.number()
			}
		case tables.CWD:
			n.addAttr(&n.objAttrs, "cwd", n.number())
		case tables.SockAddr:
			n.addAttr(&n.objAttrs, "saddr", n.number())
		}
		if !n.step() {
			break
		}
	}
	if parent != 0 {
		n.jump(parent)
		n.pathAttrs()
	}
}

// pathAttrs notes the fields of a PATH record from its mode on; it has none when
// the file could not be opened.
func (n *Normalizer) pathAttrs() {
	part := n.number()
	n.first()
	if !n.addAttr(&n.objAttrs, "mode", part) || n.now >= len(n.parts) {
		return
	}
	for p := &n.parts[n.now]; p.at+1 < p.past; {
		p.at++
		n.objAttrs = append(n.objAttrs, n.walk.in(part))
	}
}
