package rules

import (
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

// listAction reads -a, -A and -d LIST,ACTION, in either order of the two.
func (p *parser) listAction(o given) error {
	w := o.word
	verb := map[string]string{"-a": "Append", "-A": "Add", "-d": "Delete"}[o.name]
	if o.name != "-d" && p.syscalls && strings.Contains(w.s, "task") {
		return p.fail(w, "Syscall auditing requested for task list", "the task list is read when a process is made, not at system calls: leave -S out")
	}
	if p.lists++; p.lists > 1 {
		return p.fail(w, "Multiple rule insert/delete operations are not allowed", "one rule a line")
	}
	list, action, deprecated, ok := parseListAction(w.s)
	if deprecated {
		p.warn(w, "%s rule - possible is deprecated", map[string]string{"-a": "Append", "-A": "Append", "-d": "Delete"}[o.name])
		p.cmd.Deprecated, p.done, p.final = true, true, true
		return nil
	}
	if !ok {
		return p.fail(w, verb+" rule - bad keyword "+w.s, listHint(w.s))
	}
	if o.name == "-d" {
		p.del = list
	} else {
		p.add = list
		p.rule.Prepend = o.name == "-A"
	}
	p.action, p.sends = action, true
	return nil
}

// parseListAction reads LIST,ACTION or ACTION,LIST. As auditctl, it takes the
// action possible for deprecated after a list and for wrong before one.
func parseListAction(s string) (l List, a Action, deprecated, ok bool) {
	first, second, comma := strings.Cut(s, ",")
	if !comma || strings.Contains(second, ",") {
		return 0, 0, false, false
	}
	if a, ok = actionByName(first); ok {
		l, ok = listByName(second)
		return l, a, false, ok
	}
	if l, ok = listByName(first); !ok {
		return 0, 0, false, false
	}
	if second == "possible" {
		return 0, 0, true, false
	}
	a, ok = actionByName(second)
	return l, a, false, ok
}

func listHint(s string) string {
	words := append(namesOf(listNames), "always", "never")
	if strings.HasSuffix(s, ",") || strings.HasPrefix(s, ",") || strings.Contains(s, " ") {
		return "write both without a space, as in always,exit"
	}
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		_, isAction := actionByName(part)
		_, isList := listByName(part)
		if isAction || isList || part == "" {
			continue
		}
		switch strings.ToLower(part) {
		case "entry":
			return "the entry list is gone since Linux 2.6.38: use exit"
		case "watch":
			return "the watch list is gone: use -w PATH, or always,exit with -F path= and -F perm="
		case "possible":
			return "the action possible is gone: use always or never"
		default:
			if hint := suggest(part, words); hint != "" {
				return hint
			}
		}
	}
	return "write ACTION,LIST: always or never, a comma, and one of task, exit, user, exclude, filesystem, io_uring"
}

// watch reads -w and -W PATH.
func (p *parser) watch(o given) error {
	w := o.word
	if o.name == "-w" && p.list() != listUnset {
		return p.fail(w, "watch option can't be given with a syscall", "-w is a rule of its own; in a rule with -a, write -F path= or -F dir=")
	}
	path := w.s
	base := path[strings.LastIndexByte(strings.TrimRight(path, "/"), '/')+1:]
	switch {
	case len(path) >= MaxPath:
		return p.fail(w, "The path passed for the watch is too big", "a path has at most 4095 bytes")
	case path != "" && (path[0] == '"' || path[0] == '\''):
		return p.fail(w, "The path must start with '/'", "a rule file knows no quotes: write a space in a name as \\ followed by the space")
	case path == "" || path[0] != '/':
		return p.fail(w, "The path must start with '/'", "a watch needs a full path")
	case len(strings.TrimRight(base, "/")) > nameMax:
		return p.fail(w, "The base name of the path is too big", "a name has at most 255 bytes")
	case len(p.rule.Fields) > 0:
		return p.fail(w, "Rule is not empty", "a watch goes before everything else on its line, and one a line")
	}
	if strings.Contains(path, "..") {
		p.warn(w, "Warning - relative path notation is not supported")
	}
	if strings.ContainsAny(path, "*?") {
		p.warn(w, "Warning - wildcard notation is not supported")
	}
	if len(path) > 2 {
		if path = strings.TrimRight(path, "/"); path == "" {
			path = "/"
		}
	}
	id := FieldPath
	if p.env.IsDir != nil && p.env.IsDir(path) {
		id = FieldDir
	}
	if o.name == "-w" {
		p.add = ListExit
	} else {
		p.del = ListExit
	}
	p.action, p.syscalls, p.perms, p.sends = Always, true, true, true
	p.rule.Mask = AllSyscalls()
	p.rule.Fields = []Field{{ID: id, Op: Equal, Str: path}, {ID: FieldPerm, Op: Equal, Value: PermRead | PermWrite | PermExec | PermAttr}}
	return nil
}

// permission reads -p: the permissions of the rule so far.
func (p *parser) permission(w word) error {
	if p.list() == listUnset {
		return p.fail(w, "permission option needs a watch given prior to it", "write -w PATH -p "+w.s)
	}
	if len(w.s) > 4 {
		return p.fail(w, "permission "+w.s+" is too long", "r, w, x and a, each once")
	}
	val, bad := parsePerm(w.s)
	if bad >= 0 {
		return p.fail(word{w.s[bad : bad+1], w.arg, w.off + bad}, "Permission "+w.s[bad:bad+1]+" isn't supported", "r is read, w write, x execute, a attribute change")
	}
	if val == 0 {
		return p.fail(w, "permission option needs a filter", "r is read, w write, x execute, a attribute change")
	}
	if len(p.rule.Fields) == 0 {
		return p.fail(w, "Permissions should be preceded by other fields", "give the path first: -w PATH -p "+w.s)
	}
	p.perms = true
	found := false
	for i := range p.rule.Fields {
		if p.rule.Fields[i].ID == FieldPerm {
			p.rule.Fields[i].Value = val
			found = true
		}
	}
	if found {
		return nil
	}
	if len(p.rule.Fields) >= MaxFields-1 {
		return p.fail(w, "Too many fields when adding permissions", "a rule has at most 63 fields")
	}
	p.rule.Fields = append(p.rule.Fields, Field{ID: FieldPerm, Op: Equal, Value: val})
	return nil
}

// parsePerm reads permission letters; bad is the index of one that is none, or -1.
func parsePerm(s string) (val uint32, bad int) {
	for i := range len(s) {
		switch s[i] {
		case 'r', 'R':
			val |= PermRead
		case 'w', 'W':
			val |= PermWrite
		case 'x', 'X':
			val |= PermExec
		case 'a', 'A':
			val |= PermAttr
		default:
			return 0, i
		}
	}
	return val, -1
}

// key reads a key of -k or -F key=. Several make one field, at the end.
func (p *parser) key(w word) error {
	size := len(w.s) + len(p.keys)
	if p.keys != "" {
		size++
	}
	if size > MaxKey {
		return p.fail(w, "key option exceeds size limit", "the keys of a rule have at most 256 bytes together; this makes "+strconv.Itoa(size))
	}
	if strings.Contains(w.s, keySeparator) {
		return p.fail(w, "key "+printable(w.s)+" has illegal character", "the byte 0x01 separates the keys of a rule: give -k once for each key")
	}
	if p.keys == "" {
		p.keyAt = w
	}
	if p.keys != "" && w.s != "" {
		p.keys += keySeparator
	}
	p.keys += w.s
	return nil
}

// syscall reads -S.
func (p *parser) syscall(w word) error {
	if raw, ok := strings.CutPrefix(w.s, "@"); ok {
		return p.rawMask(w, raw)
	}
	list := p.list()
	if list == ListIOUring {
		return p.eachName(w, "io_uring op unknown: ", func(s string) (int, string) {
			if n, ok := numberOf(ioUringOps, s); ok {
				return int(n), ""
			}
			return number(s, or(suggest(s, namesOf(ioUringOps)), "the operations the kernel audits: "+strings.Join(namesOf(ioUringOps), ", ")))
		})
	}
	switch list {
	case ListTask, ListUser, ListFilesystem:
		return p.fail(w, "Error: syscall auditing being added to "+list.String()+" list", "-S goes with the exit list (and, for io_uring's operations, with io_uring)")
	case ListExclude:
		return p.fail(w, "Error: syscall auditing cannot be put on exclude list", "-S goes with the exit list; a type of record is excluded with -F msgtype=")
	}
	archless := p.arch == 0
	if archless {
		p.arch = p.env.Arch
	}
	arch := p.arch
	err := p.eachName(w, "Syscall name unknown: ", func(s string) (int, string) {
		if n, ok := tables.SyscallByName(arch, s); ok {
			return n, ""
		}
		return number(s, p.syscallHint(arch, s))
	})
	if err == nil && archless && p.add != listUnset {
		p.mismatch(w)
	}
	return err
}

// eachName sets the bits of a comma list. number returns a name's number, or -1
// and a hint.
func (p *parser) eachName(w word, unknown string, number func(string) (int, string)) error {
	off, any := w.off, false
	for name := range strings.SplitSeq(w.s, ",") {
		at := word{name, w.arg, off}
		off += len(name) + 1
		if name == "" && w.s != "" {
			continue // auditctl reads over empty names, too
		}
		any = true
		if name == "all" {
			p.rule.Mask = AllSyscalls()
			continue
		}
		n, hint := number(name)
		if n < 0 {
			return p.fail(at, unknown+name, hint)
		}
		p.rule.Mask.set(n)
	}
	if !any {
		return p.fail(w, unknown+w.s, "there is no name in this list")
	}
	p.syscalls = true
	return nil
}

// number reads a system call's number. Unlike auditctl, it takes the whole word
// or nothing: -S 2x is not 2.
func number(s, hint string) (int, string) {
	if !startsDigit(s) {
		return -1, hint
	}
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil || strings.Contains(s, "_") {
		return -1, "write the number in digits, or in hex with 0x"
	}
	if n > MaxSyscall {
		return -1, "a rule holds numbers up to " + strconv.Itoa(MaxSyscall)
	}
	return int(n), ""
}

func (p *parser) syscallHint(arch uint32, s string) string {
	name, _ := tables.ArchName(arch)
	if trimmed := strings.TrimSpace(s); trimmed != s {
		return "there is a space in the list: write the names with commas only"
	}
	if nums := tables.Syscalls(arch); len(nums) == 0 {
		return "the system calls of " + name + " have no names here: use numbers"
	}
	for _, other := range [...]uint32{tables.ArchX86_64, tables.ArchI386, tables.ArchAArch64, tables.ArchARM} {
		if _, ok := tables.SyscallByName(other, s); ok && other != arch {
			otherName, _ := tables.ArchName(other)
			hint := otherName + " has it, " + name + " has not"
			if pair, ok := tables.Arch32(p.env.Arch); ok && other == pair {
				hint += ": give it in a rule of its own with -F arch=b32 before -S"
			} else if other == p.env.Arch {
				hint += ": give it in a rule of its own with -F arch=b64 before -S"
			}
			return hint
		}
	}
	var names []string
	for _, n := range tables.Syscalls(arch) {
		call, _ := tables.SyscallName(arch, n)
		names = append(names, call)
	}
	return or(suggest(s, names), "names are those of "+name+"; ausyscall --dump lists them")
}

// mismatch warns, as auditctl does, when a name has another number on the
// machine's 32-bit side: a rule without arch applies to both.
func (p *parser) mismatch(w word) {
	other := p.arch
	switch p.arch {
	case tables.ArchX86_64, tables.ArchPPC64, tables.ArchS390X:
		other, _ = tables.Arch32(p.arch)
	}
	var m Mask
	for name := range strings.SplitSeq(w.s, ",") {
		if name == "all" {
			m = AllSyscalls()
		} else if n, ok := tables.SyscallByName(other, name); ok {
			m.set(n)
		} else if n, _ := number(name, ""); n >= 0 {
			m.set(n)
		}
	}
	if m != p.rule.Mask {
		p.warn(w, "WARNING - 32/64 bit syscall mismatch, you should specify an arch")
	}
}

// rawMask reads our own -S @LIST: numbers and ranges, on any list.
func (p *parser) rawMask(w word, s string) error {
	p.syscalls = true
	if s == "none" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := from, error(nil)
		if isRange {
			to, err2 = strconv.ParseUint(last, 10, 16)
		}
		if err1 != nil || err2 != nil || from > to || to > MaxSyscall {
			return p.fail(w, "Syscall name unknown: "+w.s, "-S @ takes none, or numbers and ranges up to 2047, as in @0-3,257")
		}
		for n := from; n <= to; n++ {
			p.rule.Mask.set(int(n))
		}
	}
	return nil
}
