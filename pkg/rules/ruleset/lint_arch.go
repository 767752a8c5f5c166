package ruleset

import (
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// archOf returns the architecture that a rule is narrowed to, 0 for none.
func archOf(r *rules.Rule) uint32 {
	if f, ok := r.Field(rules.FieldArch); ok && f.Op == rules.Equal {
		return f.Value
	}
	return 0
}

// narrowArch is the machine's 32-bit side, 0 when it has none.
func narrowArch(arch uint32) uint32 {
	switch arch {
	case tables.ArchX86_64:
		return tables.ArchI386
	case tables.ArchAArch64:
		return tables.ArchARM
	case tables.ArchPPC64:
		return tables.ArchPPC
	case tables.ArchS390X:
		return tables.ArchS390
	}
	return 0
}

func (l *linter) arch(p Placed) {
	arch := archOf(p.Rule)
	if arch == 0 || arch == l.env.Arch || arch == narrowArch(l.env.Arch) {
		return
	}
	name, ok := tables.ArchName(arch)
	if !ok {
		name = fmt.Sprintf("0x%x", arch)
	}
	l.warn(p, "arch="+name+" is another machine's: the rule never matches here", "write arch=b64 or arch=b32 for this machine's")
}

// pair warns of a rule on system calls that programs of the machine's other word size get
// around.
func (l *linter) pair(p Placed) {
	r, small := p.Rule, narrowArch(l.env.Arch)
	if r.List != rules.ListExit || r.Action != rules.Always || r.Mask.All() || small == 0 {
		return
	}
	switch archOf(r) {
	case l.env.Arch:
		if !l.covered(r, small) {
			l.warn(p, "there is no such rule with arch=b32: 32-bit programs get around it",
				"add the same rule with -F arch=b32, or one for all 32-bit calls: -a always,exit -F arch=b32 -S all -F key=32bit")
		}
	case small:
		if !l.covered(r, l.env.Arch) {
			l.warn(p, "there is no such rule with arch=b64: 64-bit programs get around it", "add the same rule with -F arch=b64")
		}
	case 0:
		l.warn(p, "system calls without arch: their numbers are this machine's 64-bit ones, and mean other calls in 32-bit programs",
			"write two rules, with -F arch=b64 and -F arch=b32 before -S")
	}
}

// covered reports whether some rule watches, for arch, what r does: the same
// conditions but for the architecture and the key, or every call.
func (l *linter) covered(r *rules.Rule, arch uint32) bool {
	for _, i := range l.exits.impliedBy(conditions(r)) {
		o := l.list[i].Rule
		if o.List == rules.ListExit && archOf(o) == arch && (o.Mask.All() && len(conditions(o)) == 0 || sameConditions(conditions(r), conditions(o))) {
			return true
		}
	}
	return false
}
