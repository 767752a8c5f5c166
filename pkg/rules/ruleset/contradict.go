package ruleset

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// never says why no event can match a rule's conditions, "" when one may. What it
// says holds for certain: where the kernel looks at more than one value (a
// process's groups, the files of an event), or where it takes too long to tell, it
// says nothing. How conditions are compared is as in audit_filter_rules and
// audit_filter of kernel/auditsc.c and audit.c, Linux 6.x: numbers of 32 bits
// without a sign, also exit codes.
func never(r *rules.Rule, arch uint32) string {
	if (r.List == rules.ListExit || r.List == rules.ListIOUring) && r.Mask == (rules.Mask{}) {
		return "it names no system call"
	}
	for i, f := range r.Fields {
		if why := blind(r.List, f); why != "" {
			return why
		}
		for _, g := range r.Fields[:i] {
			if opposite(f, g) {
				return fmt.Sprintf("%s and %s exclude one another", condition(r.List, g), condition(r.List, f))
			}
		}
	}
	var seen []rules.FieldID
	for _, f := range r.Fields {
		if !single(r, f.ID) || slices.Contains(seen, f.ID) {
			continue
		}
		seen = append(seen, f.ID)
		if why := emptySet(r, f.ID); why != "" {
			return why
		}
	}
	if why := neverExits(r); why != "" {
		return why
	}
	return noArch(r, arch)
}

// condition is a field as auditctl lists it.
func condition(list rules.List, f rules.Field) string {
	one := rules.Rule{List: list, Action: rules.Always, Mask: rules.AllSyscalls(), Fields: []rules.Field{f}}
	text := one.Text(rules.Env{Arch: tables.MachineArch()}, rules.TextOptions{})
	for _, option := range []string{" -F ", " -C "} {
		if _, after, ok := strings.Cut(text, option); ok {
			return after
		}
	}
	return f.ID.String() + f.Op.String()
}

// blind finds conditions that a list never sees fulfilled.
func blind(list rules.List, f rules.Field) string {
	switch list {
	case rules.ListTask:
		if f.ID == rules.FieldArch || f.ID >= rules.FieldA0 && f.ID <= rules.FieldA3 || f.ID == rules.FieldSaddrFam {
			return f.ID.String() + " is not known yet when a process is made (the task list)"
		}
	case rules.ListUser, rules.ListExclude:
		switch f.ID {
		case rules.FieldPID, rules.FieldUID, rules.FieldGID, rules.FieldAUID, rules.FieldMsgType, rules.FieldExe, rules.FieldKey,
			rules.FieldSubjUser, rules.FieldSubjRole, rules.FieldSubjType, rules.FieldSubjSen, rules.FieldSubjClr:
		default:
			return "the kernel does not look at " + f.ID.String() + " on the " + list.String() + " list"
		}
	}
	return ""
}

// opposite reports whether one condition is the denial of the other.
func opposite(f, g rules.Field) bool {
	if f.ID != g.ID || f.Str != g.Str || !(f.Op == rules.Equal && g.Op == rules.NotEqual || f.Op == rules.NotEqual && g.Op == rules.Equal) {
		return false
	}
	switch f.ID {
	case rules.FieldCompare:
		const ofProcess = 10 // from here on neither side is a file's
		return f.Value == g.Value && f.Value >= ofProcess
	case rules.FieldGID, rules.FieldEGID:
		return f.Value == g.Value
	case rules.FieldSubjUser, rules.FieldSubjRole, rules.FieldSubjType, rules.FieldSubjSen, rules.FieldSubjClr:
		return true
	}
	return false
}

// single reports whether all conditions on a field are about one number.
func single(r *rules.Rule, id rules.FieldID) bool {
	switch id {
	case rules.FieldPID, rules.FieldPPID, rules.FieldUID, rules.FieldEUID, rules.FieldSUID, rules.FieldFSUID, rules.FieldGID, rules.FieldEGID,
		rules.FieldSGID, rules.FieldFSGID, rules.FieldAUID, rules.FieldSessionID, rules.FieldPers, rules.FieldArch, rules.FieldExit, rules.FieldMsgType, rules.FieldSaddrFam:
		return true
	case rules.FieldObjUID, rules.FieldObjGID:
		// Rules on one file are tried on one file of the event at a time.
		_, path := r.Field(rules.FieldPath)
		_, inode := r.Field(rules.FieldInode)
		return path || inode
	}
	return id >= rules.FieldA0 && id <= rules.FieldA3
}

// emptySet says which conditions on a field leave no number.
func emptySet(r *rules.Rule, id rules.FieldID) string {
	set, all := full, ""
	if id == rules.FieldSaddrFam {
		set.hi = 1<<16 - 1
	}
	for _, f := range r.Fields {
		if f.ID != id {
			continue
		}
		if (id == rules.FieldGID || id == rules.FieldEGID) && f.Op == rules.Equal {
			continue // fulfilled by any of the process's groups
		}
		if all != "" {
			all += " and "
		}
		all += condition(r.List, f)
		set.narrow(f)
		if set.empty() {
			return "no number fulfils " + all
		}
	}
	return ""
}

// The exit codes of system calls that fail: the errors, as 32 bits.
const (
	firstError = ^uint32(0) - 4094
	lastError  = ^uint32(0)
)

// neverExits finds conditions on success and exit that no call fulfils.
func neverExits(r *rules.Rule) string {
	yes, no, asked := true, true, false
	exit := full
	for _, f := range r.Fields {
		switch f.ID {
		case rules.FieldSuccess:
			asked = true
			one := full
			// What is compared is 1 for success, 2 for failure.
			wanted := rules.Field{ID: f.ID, Op: f.Op, Value: 2}
			if f.Value != 0 {
				wanted.Value = 1
			}
			one.narrow(wanted)
			yes, no = yes && one.has(1), no && one.has(2)
		case rules.FieldExit:
			exit.narrow(f)
		}
	}
	failing, working := exit, exit
	failing.lo = max(failing.lo, firstError)
	working.hi = min(working.hi, firstError-1)
	switch {
	case !asked:
		return ""
	case !yes && !no:
		return "its conditions on success exclude one another"
	case !no && working.empty():
		return "success=1 and its conditions on exit exclude one another: calls that succeed do not exit with an error"
	case !yes && failing.empty():
		return "success=0 and its conditions on exit exclude one another: calls that fail exit with an error, such as -EACCES"
	}
	return ""
}

// noArch finds rules that leave out every architecture of the machine. One that
// names another machine's is warned of by itself.
func noArch(r *rules.Rule, arch uint32) string {
	if _, ok := r.Field(rules.FieldArch); !ok || archOf(r) != 0 || arch == 0 {
		return ""
	}
	set := full
	for _, f := range r.Fields {
		if f.ID == rules.FieldArch {
			set.narrow(f)
		}
	}
	if other := narrowArch(arch); set.has(arch) || other != 0 && set.has(other) {
		return ""
	}
	return "its conditions on arch leave out all programs of this machine"
}

// numbers is a set of numbers of 32 bits: those from lo to hi that have all bits of
// with, one at least of each of some, and are none of but.
type numbers struct {
	lo, hi uint32
	none   bool
	with   uint32
	some   []uint32
	but    []uint32
}

var full = numbers{hi: ^uint32(0)}

// narrow keeps the numbers that fulfil f.
func (n *numbers) narrow(f rules.Field) {
	v := f.Value
	if f.ID == rules.FieldAUID && v == ^uint32(0) {
		// The kernel asks whether there is a login user: 1 or 0, against 0.
		switch f.Op {
		case rules.Equal, rules.LessEqual:
			n.lo = v
		case rules.NotEqual, rules.Greater:
			n.but = append(slices.Clip(n.but), v)
		case rules.Less:
			n.none = true
		}
		return
	}
	switch f.Op {
	case rules.Equal:
		n.none = n.none || v < n.lo || v > n.hi
		n.lo, n.hi = v, v
	case rules.NotEqual:
		n.but = append(slices.Clip(n.but), v)
	case rules.Less:
		n.none = n.none || v == 0
		n.hi = min(n.hi, v-1)
	case rules.LessEqual:
		n.hi = min(n.hi, v)
	case rules.Greater:
		n.none = n.none || v == ^uint32(0)
		n.lo = max(n.lo, v+1)
	case rules.GreaterEqual:
		n.lo = max(n.lo, v)
	case rules.BitMask:
		n.none = n.none || v == 0
		n.some = append(slices.Clip(n.some), v)
	case rules.BitTest:
		n.with |= v
	}
}

// has reports whether v is in the set.
func (n *numbers) has(v uint32) bool {
	if n.none || v < n.lo || v > n.hi || v&n.with != n.with || slices.Contains(n.but, v) {
		return false
	}
	for _, m := range n.some {
		if v&m == 0 {
			return false
		}
	}
	return true
}

// maxTries bounds how many numbers empty looks at: a set of 63 conditions rarely
// needs more than 64.
const maxTries = 4096

// empty reports that the set has no number. A set that has one is never called
// empty; one that has none may be called full when that is hard to tell.
func (n *numbers) empty() bool {
	if n.none {
		return true
	}
	v := n.lo
	for range maxTries {
		if v = fillBits(v, n.with); v > n.hi {
			return true
		}
		if n.has(v) {
			return false
		}
		if v++; v == 0 {
			return true
		}
	}
	return false
}

// fillBits returns the first number from v on that has all bits of with.
func fillBits(v, with uint32) uint32 {
	missing := with &^ v
	if missing == 0 {
		return v
	}
	h := bits.Len32(missing) - 1 // v has no such bit: setting it makes it larger
	below := uint32(1)<<h - 1
	return v&^below | 1<<h | with&below
}
