package search

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nearest"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// noInput is the stock tools' error message for -if with an empty name.
const noInput = "stat: No such file or directory"

// pathMax is the kernel's limit for the length of a path, with its NUL byte.
const pathMax = 4096

// textFields says where the options look that are for a text as it is.
var textFields = map[string][]query.Field{
	"--comm": {query.FieldComm}, "--executable": {query.FieldExe}, "--host": {query.FieldHost}, "--key": {query.FieldKey}, "--terminal": {query.FieldTerminal},
	"--uuid": {query.FieldUUID}, "--vm-name": {query.FieldVM}, "--object": {query.FieldObject}, "--subject": {query.FieldSubject},
	"--context": {query.FieldSubject, query.FieldObject},
}

// valued reads an option that has one argument.
func (p *parser) valued(opt string) error {
	v, err := p.value(opt == "--exit" || opt == "--session" || opt == "--loginuid")
	if err != nil {
		return err
	}
	str := func(fields ...query.Field) error {
		p.term(opt, query.Term{Fields: fields, Text: v})
		return nil
	}
	if fields := textFields[opt]; fields != nil {
		return str(fields...)
	}
	switch opt {
	case "--file":
		if len(v) >= pathMax {
			return usagef("File name is too long %s", v)
		}
		return str(query.FieldFile)
	case "--node":
		p.o.Query.Nodes = append(p.o.Query.Nodes, NodesOf(v)...)
	case "--checkpoint":
		if p.o.Checkpoint != "" && p.o.Checkpoint != v && !p.env.Stock {
			return usagef("%s is given twice, as %s and as %s: only one is kept", p.name, p.o.Checkpoint, v)
		}
		p.o.Checkpoint = v
	case "--input":
		if len(v) >= pathMax-32 {
			return usagef("File name is too longs %s", v)
		}
		if v == "" { // a variable of a script that is not set: not the log of this machine
			return usagef(noInput)
		}
		if p.o.Input != "" && p.o.Input != v && !p.env.Stock {
			return usagef("%s is given twice, as %s and as %s: only one is read; a folder is read with its rotated logs", p.name, p.o.Input, v)
		}
		p.o.Input = v
	case "--format", "--escape":
		return p.outputForm(opt, v)
	case "--message":
		return p.message(v)
	case "--event", "--eoe-timeout":
		return p.count(opt, v)
	case "--pid":
		return p.process(opt, query.FieldPID, "Process id", v)
	case "--ppid":
		return p.process(opt, query.FieldPPID, "Parent process id", v)
	case "--success":
		if !strings.Contains(v, "yes") && !strings.Contains(v, "no") {
			return usagef("Success must be 'yes' or 'no'.")
		}
		if v != "yes" {
			v = "no"
		}
		return str(query.FieldSuccess)
	case "--session":
		return p.session(v)
	case "--exit":
		return p.exit(v)
	case "--syscall":
		return p.syscall(v)
	case "--arch":
		return p.arch(v)
	case "--gid", "--gid-effective", "--gid-all":
		return p.group(opt, v)
	default:
		return p.user(opt, v)
	}
	return nil
}

func (p *parser) outputForm(opt, v string) error {
	o := p.o
	if opt == "--escape" {
		mode := slices.Index(escapeNames[:], v)
		if mode < 0 {
			return usagef("Unknown option (%s)\n  the modes are %s", v, strings.Join(escapeNames[:], ", "))
		}
		o.Escape = interpret.Escape(mode)
		return nil
	}
	if v == "json" && o.Format == output.FormatInterpret {
		o.Format, o.Words = output.FormatJSON, true
		return nil
	}
	if o.Format != output.FormatDefault {
		if o.Format == output.FormatInterpret && (v == "text" || v == "csv") {
			return usagef("Multiple output formats, use only 1\n  %s has words for numbers already: leave -i out", v)
		}
		return usagef("Multiple output formats, use only 1%s", conflict(o.Format))
	}
	f := slices.Index(output.FormatNames(), v)
	switch {
	case f >= 0:
		o.Format = output.Format(f)
	case strings.HasPrefix(v, "interp"):
		o.Format = output.FormatInterpret
	default:
		return usagef("Unknown option (%s)%s", v, cmp.Or(nearest.Hint(v, output.FormatNames()), "\n  the formats are "+strings.Join(output.FormatNames(), ", ")))
	}
	return nil
}

// conflict says what to write instead of two formats.
func conflict(f output.Format) string {
	switch f {
	case output.FormatText, output.FormatCSV:
		return fmt.Sprintf("\n  %s has words for numbers already: leave -i out", output.FormatNames()[f])
	case output.FormatRaw:
		return "\n  raw is as the records were stored: with -i instead there are words for numbers"
	case output.FormatInterpret:
		return "\n  -i is a format of its own, and goes with json only"
	}
	return ""
}

// anyType is the word that all record types are.
const anyType = "ALL"

func (p *parser) message(v string) error {
	if strings.EqualFold(v, anyType) {
		return nil
	}
	for name := range strings.SplitSeq(v, ",") {
		if name == "" && strings.Contains(v, ",") {
			continue
		}
		types, err := typesNamed(name)
		if err != nil {
			return err
		}
		p.o.Query.Types = append(p.o.Query.Types, types...)
	}
	return nil
}

// typesNamed reads a record type: its name, its number, or a pattern such as USER_*.
func typesNamed(name string) (types []uint32, err error) {
	if name == "" {
		return nil, usagef("A record type is a name or a number, such as USER_LOGIN")
	}
	if isDigit(name) {
		n, why := wholeNumber(name, maxInt)
		if why != "" {
			return nil, usagef("Numeric message type conversion error (%s) for %s", why, name)
		}
		return []uint32{uint32(n)}, nil
	}
	if query.IsPattern(name) {
		for _, n := range tables.Types() {
			if query.Like(strings.ToUpper(name), tables.TypeName(n)) {
				types = append(types, uint32(n))
			}
		}
		if len(types) == 0 {
			return nil, usagef("No record type is like %s", name)
		}
		return types, nil
	}
	n, ok := tables.TypeByName([]byte(name))
	if !ok {
		return nil, usagef("There is no record type %s%s", name, nearest.Hint(name, typeWords(nil, "")))
	}
	return []uint32{uint32(n)}, nil
}

func (p *parser) count(opt, v string) error {
	if opt == "--event" {
		n, why := wholeNumber(v, maxID)
		switch {
		case !isDigit(v):
			return usagef("Audit event id must be a numeric value, was %s", v)
		case why != "":
			return usagef("Illegal value for audit event ID, was %s", v)
		}
		p.o.Query.Serial, p.o.Query.HasSerial = n, true
		return nil
	}
	n, why := wholeNumber(v, uint64(maxEOETimeout/time.Second))
	switch {
	case !isDigit(v):
		return usagef("End of Event Timeout must be a numeric value, was %s", v)
	case why != "" || n == 0:
		return usagef("Illegal value for End of Event Timeout, was %s", v)
	}
	p.o.EOETimeout = time.Duration(n) * time.Second
	return nil
}

const maxEOETimeout = 10 * 365 * 24 * time.Hour

func (p *parser) process(opt string, f query.Field, what, v string) error {
	n, why := wholeNumber(v, maxInt)
	if why != "" {
		return usagef("%s must be a numeric value, was %s", what, v)
	}
	p.term(opt, query.Term{Fields: []query.Field{f}, Text: strconv.FormatUint(n, 10)})
	return nil
}

func (p *parser) session(v string) error {
	n, why := wholeNumber(v, maxID)
	switch {
	case isNegative(v):
		signed, ok := signedNumber(v, 32)
		if !ok {
			return usagef("Error converting %s", v)
		}
		n = uint64(uint32(signed))
	case !isDigit(v):
		return usagef("Session id must be a numeric value, was %s", v)
	case why != "":
		return usagef("Error converting %s", v)
	}
	p.term("--session", query.Term{Fields: []query.Field{query.FieldSession}, Text: strconv.FormatUint(n, 10)})
	return nil
}

// exit is a number in C's notation, or an errno's name, whose sign counts.
func (p *parser) exit(v string) error {
	n, ok := signedNumber(v, 64)
	switch {
	case isDigit(v) || isNegative(v):
		if !ok {
			return usagef("Error converting %s", v)
		}
	default:
		name := strings.TrimPrefix(v, "-")
		e, ok := tables.ErrnoByName(name)
		if !ok {
			return usagef("Unknown errno, was %s%s", v, nearest.Hint("-"+name, exitWords(nil, "")))
		}
		if n = int64(e); len(name) < len(v) {
			n = -n
		}
	}
	p.term("--exit", query.Term{Fields: []query.Field{query.FieldExit}, Text: strconv.FormatInt(n, 10)})
	return nil
}

func (p *parser) syscall(v string) error {
	p.hasSyscall = true
	if isDigit(v) {
		n, why := wholeNumber(v, maxInt)
		if why != "" {
			return usagef("Syscall numeric conversion error (%s) for %s", why, v)
		}
		p.term("--syscall", query.Term{Fields: []query.Field{query.FieldSyscall}, Text: strconv.FormatUint(n, 10)})
		return nil
	}
	if !p.hasMachine {
		m, ok := tables.ArchByName(p.env.Machine)
		if !ok {
			return usagef("Error detecting machine type")
		}
		p.machine, p.hasMachine = m, true
	}
	n, ok := tables.SyscallByName(p.machine, v)
	if !ok {
		return usagef("Syscall %s not found%s", v, nearest.Hint(v, syscallNames(p.machine)))
	}
	p.term("--syscall", query.Term{Fields: []query.Field{query.FieldSyscall}, Text: strconv.Itoa(n)})
	return nil
}

func (p *parser) arch(v string) error {
	if p.hasMachine && p.hasSyscall {
		return usagef("Arch needs to be defined before the syscall")
	}
	if p.hasMachine {
		return usagef("Arch is already defined")
	}
	m, ok := p.machineByName(v)
	if !ok {
		return usagef("Unknown arch %s%s", v, nearest.Hint(v, archWords(nil, "")))
	}
	p.machine, p.hasMachine = m, true
	return nil
}

// machineByName reads an architecture: a name, b32 or b64 of this machine, or
// the number a SYSCALL record has.
func (p *parser) machineByName(v string) (uint32, bool) {
	own, ownOK := tables.ArchByName(p.env.Machine)
	switch strings.ToLower(v) {
	case "b64":
		return own, ownOK && own&tables.Arch64Bit != 0
	case "b32":
		sibling, ok := tables.Arch32(own)
		return sibling, ownOK && ok
	}
	if m, ok := tables.ArchByName(v); ok {
		return m, true
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(v), "0x"), 16, 32)
	if err != nil {
		return 0, false
	}
	_, ok := tables.ArchName(uint32(n))
	return uint32(n), ok
}
