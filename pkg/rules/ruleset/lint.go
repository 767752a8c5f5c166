package ruleset

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/rules"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// LintEnv is what Lint looks at besides the rules.
type LintEnv struct {
	Arch uint32                                 // the machine's AUDIT_ARCH_*
	Stat func(path string) (fs.FileInfo, error) // nil: paths are not looked at
	// Link returns what a symbolic link leads to in the end, false when path is
	// none; nil: nothing is one.
	Link func(path string) (real string, ok bool)
}

// SystemLintEnv is this machine.
func SystemLintEnv() LintEnv {
	return LintEnv{Arch: rules.MachineArch(), Stat: os.Stat, Link: link}
}

func link(path string) (string, bool) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return "", false
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real, true
	}
	// It leads nowhere, or in circles: where it points to is all there is to say.
	to, err := os.Readlink(path)
	if err == nil && !filepath.IsAbs(to) {
		to = filepath.Join(filepath.Dir(path), to)
	}
	return to, err == nil
}

// Lint says what is questionable about the rules a file asks for, as they will
// stand in the kernel: what the kernel takes without a word though it will not
// do what was meant, or too much of it. Rules without a line (held before) are
// looked at only as what others are compared with.
func Lint(list []Placed, env LintEnv) []Warning {
	l := newLinter(list, env)
	for i, p := range list {
		if p.Line == nil {
			continue
		}
		for _, w := range p.Line.Cmd.Warnings {
			l.out = append(l.out, asWarning(p.Line, w))
		}
		l.arch(p)
		l.paths(p)
		if why := never(p.Rule, env.Arch); why != "" {
			l.warn(p, "the rule never matches: "+why, "all conditions of a rule must hold at once: make two rules where either is meant")
			continue
		}
		l.pair(p)
		l.flood(p)
		l.shadowed(i)
	}
	return l.out
}

type linter struct {
	env     LintEnv
	list    []Placed
	out     []Warning
	exits   *conditionIndex // of the rules on system calls, without architecture and key
	matches *conditionIndex // of all, without key
}

func newLinter(list []Placed, env LintEnv) *linter {
	return &linter{
		env: env, list: list,
		exits: newConditionIndex(len(list), func(i int) ([]rules.Field, bool) {
			return conditions(list[i].Rule), list[i].Rule.List == rules.ListExit
		}),
		matches: newConditionIndex(len(list), func(i int) ([]rules.Field, bool) { return withoutKey(list[i].Rule), true }),
	}
}

func (l *linter) warn(p Placed, msg, hint string) {
	l.out = append(l.out, Warning{File: p.Line.File, No: p.Line.No, Msg: msg, Hint: hint})
}

// archOf is the architecture a rule is narrowed to, 0 for none.
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

// pair finds rules on system calls that 32-bit programs get around.
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

// conditions are a rule's fields without architecture and key.
func conditions(r *rules.Rule) []rules.Field {
	var out []rules.Field
	for _, f := range r.Fields {
		if f.ID != rules.FieldArch && f.ID != rules.FieldKey {
			out = append(out, f)
		}
	}
	return out
}

func sameConditions(a, b []rules.Field) bool {
	return len(a) == len(b) && implies(a, b)
}

// implies reports whether each condition of general holds when special does.
func implies(special, general []rules.Field) bool {
	for _, g := range general {
		found := false
		for _, s := range special {
			found = found || s == g || inTree(s, g) || fewerPerms(s, g)
		}
		if !found {
			return false
		}
	}
	return true
}

// inTree: a file or tree below a watched tree.
func inTree(s, g rules.Field) bool {
	return g.ID == rules.FieldDir && g.Op == rules.Equal && s.Op == rules.Equal &&
		(s.ID == rules.FieldPath || s.ID == rules.FieldDir) && strings.HasPrefix(s.Str, strings.TrimSuffix(g.Str, "/")+"/")
}

func fewerPerms(s, g rules.Field) bool {
	return g.ID == rules.FieldPerm && s.ID == rules.FieldPerm && s.Op == g.Op && s.Value&^g.Value == 0
}

// shadowed finds a rule that an earlier one of its list leaves nothing for.
func (l *linter) shadowed(i int) {
	p := l.list[i]
	for _, k := range l.matches.impliedBy(withoutKey(p.Rule)) {
		if k >= i {
			return
		}
		q := l.list[k]
		if q.Rule.List != p.Rule.List || !wider(q.Rule, p.Rule) {
			continue
		}
		where := "a rule that is loaded already"
		if q.Line != nil {
			where = fmt.Sprintf("%s:%d", q.Line.File, q.Line.No)
		}
		what := "matches all that this one could"
		switch {
		case q.Rule.Action == rules.Never && p.Rule.Action != rules.Never:
			l.warn(p, "unreachable: "+where+" says never and "+what, "the first rule that matches decides: put this one before it, or narrow the other")
		case q.Rule.Action == rules.Never:
			l.warn(p, "unreachable: "+where+" "+what, "one of the two is enough")
		default:
			l.warn(p, "unreachable: "+where+" "+what+", and its key is used", "the first rule that matches decides: put the narrower one first")
		}
		return
	}
}

// wider reports whether a matches whenever b does.
func wider(a, b *rules.Rule) bool {
	if !b.Mask.All() || !a.Mask.All() {
		for i := range b.Mask {
			if b.Mask[i]&^a.Mask[i] != 0 && !(a.Mask.All() && i == len(b.Mask)-1) {
				return false
			}
		}
	}
	return implies(withoutKey(b), withoutKey(a))
}

func withoutKey(r *rules.Rule) []rules.Field {
	var out []rules.Field
	for _, f := range r.Fields {
		if f.ID != rules.FieldKey {
			out = append(out, f)
		}
	}
	return out
}

func (l *linter) paths(p Placed) {
	if l.env.Stat == nil {
		return
	}
	for _, f := range p.Rule.Fields {
		if f.Op != rules.Equal {
			continue
		}
		if f.ID == rules.FieldPath || f.ID == rules.FieldDir || f.ID == rules.FieldExe {
			if l.symlink(p, f) {
				continue
			}
		}
		switch f.ID {
		case rules.FieldPath:
			l.watch(p, f.Str)
		case rules.FieldDir:
			l.tree(p, f.Str)
		case rules.FieldExe:
			switch dir := filepath.Dir(f.Str); {
			case !l.absent(f.Str):
			case l.absent(dir):
				l.warn(p, dir+" does not exist: the kernel refuses a rule on a program in it", "take the rule out, or create the folder first")
			default:
				l.warn(p, f.Str+" does not exist: no program can match", "the rule holds from when it is created")
			}
		}
	}
}

// symlink finds rules on a symbolic link: the kernel watches the link itself, and
// a program or an open file is never one. Links on the way to a path are followed.
func (l *linter) symlink(p Placed, f rules.Field) bool {
	if l.env.Link == nil {
		return false
	}
	path := f.Str
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	real, ok := l.env.Link(path)
	if ok {
		what := "what is done to the file it leads to is not seen"
		switch f.ID {
		case rules.FieldDir:
			what = "what is done below the folder it leads to is not seen"
		case rules.FieldExe:
			what = "no program can match"
		}
		l.warn(p, path+" is a symbolic link: "+what, "name the real path: "+real)
	}
	return ok
}

func (l *linter) absent(path string) bool {
	_, err := l.env.Stat(path)
	return err != nil && os.IsNotExist(err)
}

func (l *linter) watch(p Placed, path string) {
	switch dir := filepath.Dir(path); {
	case !l.absent(path):
	case l.absent(dir):
		l.warn(p, dir+" does not exist: the kernel refuses to watch a file in it", "take the rule out, or create the folder first")
	default:
		l.warn(p, path+" does not exist: it is watched from when it is created", "if it never is, the rule does nothing")
	}
}

func (l *linter) tree(p Placed, path string) {
	info, err := l.env.Stat(path)
	switch {
	case err != nil && os.IsNotExist(err):
		l.warn(p, path+" does not exist: the kernel refuses to watch a tree that is not there", "take the rule out, or create the folder first")
	case err == nil && !info.IsDir():
		l.warn(p, path+" is no folder, so dir= watches that one file", "write -F path="+path)
	}
}

// flood finds rules that match every system call of all processes or of many.
func (l *linter) flood(p Placed) {
	r := p.Rule
	if r.Action != rules.Always || !r.Mask.All() && r.List == rules.ListExit {
		return
	}
	switch r.List {
	case rules.ListTask:
		if len(conditions(r)) == 0 {
			l.warn(p, "this records every process that is started, whatever it does", "a rule on execve says more")
		}
		return
	case rules.ListExit:
	default:
		return
	}
	who := ""
	for _, f := range conditions(r) {
		switch f.ID {
		case rules.FieldPath, rules.FieldDir, rules.FieldPerm, rules.FieldInode, rules.FieldExe, rules.FieldPID, rules.FieldPPID,
			rules.FieldFileType, rules.FieldDevMajor, rules.FieldDevMinor, rules.FieldObjUID, rules.FieldObjGID, rules.FieldSaddrFam,
			rules.FieldExit, rules.FieldObjUser, rules.FieldObjRole, rules.FieldObjType, rules.FieldObjLevLow, rules.FieldObjLevHigh:
			return
		case rules.FieldSuccess:
			who = " that fails"
			if f.Value != 0 {
				who = " that succeeds"
			}
		default:
			who = " of the processes it names"
		}
	}
	if archOf(r) != 0 && archOf(r) == narrowArch(l.env.Arch) {
		return // the usual way to forbid 32-bit programs: few calls or none
	}
	l.warn(p, "this fires on every system call"+who+": expect thousands of events a second", "name the calls with -S, or the files with -F path= or dir=")
}
