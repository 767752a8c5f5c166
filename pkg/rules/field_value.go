package rules

import (
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/tables"
)

const afMax = 46 // AF_MAX of include/linux/socket.h

// value reads a field's value.
func (p *parser) value(name, w word, f *Field) error {
	p.allowKey(*f)
	switch {
	case f.ID.IsString():
		limit := MaxPath
		if f.ID == FieldKey {
			limit = MaxKey
		}
		if len(w.s) > limit {
			return p.fail(w, "String value too long", "at most "+strconv.Itoa(limit)+" bytes")
		}
		f.Str = w.s
		return nil
	case isUser(f.ID):
		return p.userValue(w, f)
	case isGroup(f.ID):
		return p.groupValue(w, f)
	case f.ID >= FieldA0 && f.ID <= FieldA3:
		if !startsDigit(w.s) && !startsNegative(w.s) {
			return p.fail(w, "-F value should be number for "+name.s, "an argument is compared as a number, in digits or in hex with 0x: what a pointer points to is not read")
		}
		p.setValue(w, f)
		return nil
	}
	switch f.ID {
	case FieldExit:
		return p.exitValue(name, w, f)
	case FieldMsgType:
		return p.msgTypeValue(name, w, f)
	case FieldArch:
		return p.archValue(name, w, f)
	case FieldPerm:
		return p.permValue(w, f)
	case FieldFileType:
		n, ok := numberOf(fileTypes, w.s)
		if !ok {
			return p.fail(w, "-F unknown file type -  "+name.s, suggest(w.s, namesOf(fileTypes)), "one of "+strings.Join(namesOf(fileTypes), ", "))
		}
		f.Value = n
	case FieldFSType:
		return p.fsTypeValue(name, w, f)
	case FieldSessionID:
		p.sessionValue(w, f)
	case FieldSaddrFam:
		p.setValue(w, f)
		if f.Value >= afMax {
			return p.fail(w, "value is too large for field: "+name.s, "families are numbered up to 45; 2 is IPv4, 10 IPv6, 1 unix")
		}
	default:
		if !startsDigit(w.s) {
			hint := "write digits, or hex with 0x"
			if f.ID == FieldSuccess {
				hint = "1 for yes, 0 for no"
			}
			return p.fail(w, "-F value should be number for "+name.s, hint)
		}
		p.setValue(w, f)
	}
	return nil
}

// setValue reads a number as auditctl does and warns where that is not what is
// written.
func (p *parser) setValue(w word, f *Field) {
	n := parseNumber(w.s)
	p.number(w, n)
	f.Value = n.value
}

func (p *parser) number(w word, n cNumber) {
	rest := strings.TrimRight(w.s[n.used:], " ")
	switch {
	case n.used == 0:
		p.warn(w, "Warning - %q is no number: 0 is taken, as auditctl does", w.s)
	case rest != "":
		p.warn(w, "Warning - %q is read as %d, as auditctl does", w.s, int32(n.value))
	case n.wide:
		p.warn(w, "Warning - %q does not fit 32 bits: %d is taken, as auditctl does", w.s, int32(n.value))
		p.cmd.Warnings[len(p.cmd.Warnings)-1].Wraps = true
	}
}

func isUser(id FieldID) bool {
	return id >= FieldUID && id <= FieldFSUID || id == FieldAUID || id == FieldObjUID
}

func isGroup(id FieldID) bool {
	return id >= FieldGID && id <= FieldFSGID || id == FieldObjGID
}

const unset = ^uint32(0)

func (p *parser) userValue(w word, f *Field) error {
	switch {
	case startsDigit(w.s), startsNegative(w.s):
		p.setValue(w, f)
	case w.s == "unset":
		f.Value = unset
	default:
		n, ok := uint32(0), false
		if p.env.Accounts != nil {
			n, ok = p.env.Accounts.UserID(w.s)
		}
		if !ok {
			hint := "no such user on this machine: add it, or give its number"
			if strings.EqualFold(w.s, "unset") || strings.EqualFold(w.s, "none") {
				hint = "write unset, or -1, for no user"
			} else if strings.HasPrefix(w.s, "=") {
				hint = "write one ="
			}
			return p.fail(w, "Unknown user: "+w.s, hint)
		}
		f.Value = n
	}
	return nil
}

func (p *parser) groupValue(w word, f *Field) error {
	if startsDigit(w.s) {
		p.setValue(w, f)
		return nil
	}
	n, ok := uint32(0), false
	if p.env.Accounts != nil {
		n, ok = p.env.Accounts.GroupID(w.s)
	}
	if !ok {
		hint := "no such group on this machine: add it, or give its number"
		if w.s == "unset" || startsNegative(w.s) {
			hint = "a group is never unset: leave the condition out"
		}
		return p.fail(w, "Unknown group: "+w.s, hint)
	}
	f.Value = n
	return nil
}

func (p *parser) exitValue(name, w word, f *Field) error {
	if startsDigit(w.s) || startsNegative(w.s) {
		p.setValue(w, f)
		return nil
	}
	errno, negative := strings.CutPrefix(w.s, "-")
	n, ok := tables.ErrnoByName(errno)
	if !ok {
		var names []string
		for i := range 134 {
			if e, ok := tables.ErrnoName(i); ok {
				names = append(names, e)
			}
		}
		if negative {
			for i, e := range names {
				names[i] = "-" + e
			}
		}
		return p.fail(w, "-F unknown errno - "+name.s, suggest(w.s, names), "an error is given as -EACCES or -13")
	}
	f.Value = uint32(n)
	if negative {
		f.Value = -f.Value
	} else {
		p.warn(w, "Warning - a failed system call exits with -%s: this rule matches the positive number %d", w.s, n)
	}
	return nil
}

func (p *parser) msgTypeValue(name, w word, f *Field) error {
	if startsDigit(w.s) {
		p.setValue(w, f)
		return nil
	}
	n, ok := tables.TypeByName([]byte(w.s))
	if !ok || n == 0 {
		var names []string
		for _, t := range tables.Types() {
			names = append(names, tables.TypeName(t))
		}
		return p.fail(w, "-F unknown message type - "+name.s, suggest(w.s, names), "give a record type by name, as ausearch -m shows them, or by number")
	}
	f.Value = uint32(n)
	return nil
}

func (p *parser) permValue(w word, f *Field) error {
	if len(w.s) > 4 {
		return p.fail(w, "String value too long", "r, w, x and a, each once")
	}
	val, bad := parsePerm(w.s)
	if bad >= 0 {
		return p.fail(word{w.s[bad : bad+1], w.arg, w.off + bad}, "Permission can only contain  'rwxa'", "r is read, w write, x execute, a attribute change")
	}
	f.Value = val
	return nil
}

func (p *parser) fsTypeValue(name, w word, f *Field) error {
	if startsDigit(w.s) {
		p.setValue(w, f)
	} else if n, ok := numberOf(fsTypes, w.s); ok {
		f.Value = n
	} else {
		f.Value = unset
	}
	if f.Value == unset {
		return p.fail(w, "file system type is unknown for field: "+name.s, suggest(w.s, namesOf(fsTypes)),
			"one of "+strings.Join(namesOf(fsTypes), ", ")+", or the magic number that stat -f -c 0x%t PATH shows")
	}
	return nil
}

func (p *parser) sessionValue(w word, f *Field) {
	if w.s == "unset" {
		f.Value = unset
		return
	}
	if startsDigit(w.s) || startsNegative(w.s) {
		p.setValue(w, f)
		return
	}
	p.warn(w, "Warning - %q is no session: 0 is taken, as auditctl does", w.s)
}

// archValue reads -F arch=: b32, b64, a machine's name or an AUDIT_ARCH number.
func (p *parser) archValue(name, w word, f *Field) error {
	arch, ok := p.archNumber(w.s)
	if !ok || !p.env.knownArch(arch) {
		machine, _ := tables.ArchName(p.env.Arch)
		hint := "b64 and b32 always mean this machine (" + machine + ")"
		near := suggest(w.s, []string{"b64", "b32", "x86_64", "i386", "aarch64", "ppc64le", "s390x"})
		switch {
		case strings.EqualFold(w.s, "arm64"):
			hint = "did you mean aarch64? " + hint
		case strings.EqualFold(w.s, "amd64"), strings.EqualFold(w.s, "x86-64"):
			hint = "did you mean x86_64? " + hint
		case strings.EqualFold(w.s, "x86"), strings.EqualFold(w.s, "ia32"):
			hint = "did you mean i386? " + hint
		case strings.EqualFold(w.s, "b32"):
			hint = machine + " has no 32-bit side"
		case near != "" && !isMachine(w.s): // b46 is a typing error, though it reads as a number in hexadecimal
			hint = near
		case ok:
			hint = "such rules load on machines of that kind only; " + hint
		}
		return p.fail(w, name.s+" elf mapping not found", hint)
	}
	f.Value, p.arch = arch, arch
	return nil
}

// isMachine reports whether s names an architecture of some other machine.
func isMachine(s string) bool {
	_, ok := tables.ArchByName(s)
	return ok
}

func (p *parser) archNumber(s string) (uint32, bool) {
	switch {
	case startsDigit(s):
		n := parseNumber(s)
		return n.value, !n.overflow && !n.wide && n.used == len(s)
	case strings.EqualFold(s, "b64"):
		return p.env.Arch, p.env.Arch&tables.Arch64Bit != 0
	case strings.EqualFold(s, "b32"):
		return tables.Arch32(p.env.Arch)
	}
	if n, ok := tables.ArchByName(s); ok {
		return n, true
	}
	n, err := strconv.ParseUint(s, 16, 32)
	return uint32(n), err == nil
}
