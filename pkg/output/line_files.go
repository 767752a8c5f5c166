package output

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// pathOf is the first PATH record of that nametype.
func (f *lineFormat) pathOf(nametype string) *record.Record {
	for i := range f.records {
		p := &f.records[i]
		if kind, ok := p.Get("nametype"); p.Type == tables.Path && ok && string(kind.Value) == nametype {
			return p
		}
	}
	return nil
}

// mainPath is the PATH record of what a call is about: the first that is no parent
// directory, or else the first.
func (f *lineFormat) mainPath() (first *record.Record) {
	for i := range f.records {
		p := &f.records[i]
		if p.Type != tables.Path {
			continue
		}
		if kind, ok := p.Get("nametype"); !ok || string(kind.Value) != "PARENT" {
			return p
		}
		if first == nil {
			first = p
		}
	}
	return first
}

// appendFile appends the file that a call is about.
func (f *lineFormat) appendFile(dst []byte, r *record.Record) []byte {
	p := f.mainPath()
	if p == nil {
		return append(dst, "a file (not recorded)"...)
	}
	if kind, ok := p.Get("nametype"); ok && string(kind.Value) == "PARENT" {
		dst = append(dst, "a file in "...)
	}
	return f.appendPath(dst, p, f.relative(r, "a0"))
}

// appendPair appends the two files of a call.
func (f *lineFormat) appendPair(dst []byte, r *record.Record, between string) []byte {
	from, to := "a0", "a2" // descriptors that names are relative to
	first, second := f.pathOf("DELETE"), f.pathOf("CREATE")
	switch f.call {
	case "link", "linkat":
		first, second, from, to = second, f.pathOf("NORMAL"), to, from
	case "symlink", "symlinkat":
		first, second, from = second, f.pathOf("UNKNOWN"), "a1"
	case "rename", "renameat", "renameat2":
	default: // a mount: what it is mounted on comes first
		var all []*record.Record
		for i := range f.records {
			if f.records[i].Type == tables.Path {
				all = append(all, &f.records[i])
			}
		}
		switch len(all) {
		case 0:
		case 1:
			first, second = nil, all[0]
		default:
			first, second = all[1], all[0]
		}
	}
	if first == nil && second == nil {
		return f.appendFile(dst, r)
	}
	dst = f.appendPathOr(dst, first, f.relative(r, from))
	if strings.HasPrefix(f.call, "symlink") && second != nil {
		// the target of a link is its text, relative to the link
		name, _ := second.Get("name")
		f.path = name.AppendDecoded(f.path[:0])
		return appendQuoted(append(dst, between...), f.path, longestValue)
	}
	return f.appendPathOr(append(dst, between...), second, f.relative(r, to))
}

func (f *lineFormat) appendPathOr(dst []byte, p *record.Record, relative string) []byte {
	if p == nil {
		return append(dst, "something (not recorded)"...)
	}
	return f.appendPath(dst, p, relative)
}

// relative is the descriptor that a call takes names relative to, "" where that is the
// working directory. arg is the argument that has it, in those calls that have one.
func (f *lineFormat) relative(r *record.Record, arg string) string {
	switch f.call {
	case "stat", "fstat", "lstat", "creat":
		return ""
	case "statx":
	default:
		if !strings.HasSuffix(f.call, "at") && !strings.HasSuffix(f.call, "at2") {
			return ""
		}
	}
	const cwd = 0xffffff9c // AT_FDCWD
	fd, ok := f.argument(r, arg)
	if !ok || uint32(fd) == cwd {
		return ""
	}
	return strconv.FormatUint(fd, 10)
}

// appendPath appends the name of a PATH record, absolute where the working directory says
// how. relative is a descriptor that the name is relative to.
func (f *lineFormat) appendPath(dst []byte, p *record.Record, relative string) []byte {
	name, ok := f.own(p, "name")
	if !ok {
		return f.appendInode(dst, p)
	}
	f.path = name.AppendDecoded(f.path[:0])
	if len(f.path) == 0 {
		return f.appendInode(dst, p)
	}
	if relative != "" && f.path[0] != '/' {
		f.object = f.object[:0]
		dst = appendQuoted(dst, f.path, longestValue)
		return append(append(dst, " below descriptor "...), relative...)
	}
	f.object = f.in.AppendPath(f.object[:0], inRecord(&name), f.cwd())
	return appendQuoted(dst, f.object, longestValue)
}

// inRecord is a field's value as its record has it, with its quotes.
func inRecord(field *record.Field) []byte {
	if field.Quote == 0 {
		return field.Value
	}
	return append(append([]byte{field.Quote}, field.Value...), field.Quote)
}

// cwd is the working directory as its record has it, nil without one.
func (f *lineFormat) cwd() []byte {
	if r := f.find(tables.CWD); r != nil {
		if cwd, ok := f.own(r, "cwd"); ok {
			return inRecord(&cwd)
		}
	}
	return nil
}

// appendInode appends what names a file without a name.
func (f *lineFormat) appendInode(dst []byte, p *record.Record) []byte {
	inode, ok := f.own(p, "inode")
	if !ok {
		return append(dst, "a file without a name"...)
	}
	dst = f.appendValue(append(dst, "inode "...), p, &inode)
	if dev, ok := f.own(p, "dev"); ok {
		dst = f.appendValue(append(dst, " of device "...), p, &dev)
	}
	return dst
}

func isExec(call string) bool { return call == "execve" || call == "execveat" }

// appendCommand appends the program that a call ran, and its arguments.
func (f *lineFormat) appendCommand(dst []byte, r *record.Record) []byte {
	f.object = f.object[:0]
	if p := f.mainPath(); p != nil {
		dst = f.appendPath(dst, p, f.relative(r, "a0"))
	} else if exe, ok := f.own(r, "exe"); ok && f.outcomeOf(r) == succeeded {
		f.object = f.appendText(f.object[:0], r, &exe)
		dst = appendQuoted(dst, f.object, longestValue)
	} else {
		dst = append(dst, "a program (not recorded)"...)
	}
	return f.appendArguments(dst)
}

// appendArguments appends the arguments of the EXECVE records but the first, which is the
// program's name: where it is another one than the program's, it comes last.
func (f *lineFormat) appendArguments(dst []byte) []byte {
	shown, seen, argc := 0, 0, -1
	from := len(dst)
	f.argument0 = f.argument0[:0]
	for i := range f.records {
		r := &f.records[i]
		if r.Type != tables.Execve {
			continue
		}
		fields := r.Fields()
		for field, ok := fields.Next(); ok; field, ok = fields.Next() {
			nr, piece, ok := argumentNumber(field.Name)
			switch {
			case string(field.Name) == "argc":
				argc, _ = strconv.Atoi(string(field.Value))
			case !ok:
			case nr == 0:
				f.argument0 = field.AppendDecoded(f.argument0)
				seen = 1
			case piece > 0:
				f.value = field.AppendDecoded(f.value) // the argument that is not written yet
			default:
				dst, shown = f.flushArgument(dst, from, shown, seen)
				f.value = field.AppendDecoded(f.value[:0])
				seen = nr + 1
			}
		}
	}
	dst, shown = f.flushArgument(dst, from, shown, seen)
	if left := max(argc, seen) - 1 - shown; left > 0 && seen > 0 {
		dst = append(strconv.AppendInt(append(dst, " ...(+"...), int64(left), 10), " arguments)"...)
	}
	if base := f.object[bytes.LastIndexByte(f.object, '/')+1:]; len(f.argument0) > 0 && !bytes.Equal(base, f.argument0[bytes.LastIndexByte(f.argument0, '/')+1:]) {
		dst = appendQuoted(append(dst, " (called "...), f.argument0, longestArgument)
		dst = append(dst, ')')
	}
	return dst
}

// flushArgument appends the argument in f.value unless the command is long enough already.
func (f *lineFormat) flushArgument(dst []byte, from, shown, seen int) ([]byte, int) {
	if seen < 2 || len(dst)-from > longestCommand {
		return dst, shown
	}
	return appendQuoted(append(dst, ' '), f.value, longestArgument), shown + 1
}

// argumentNumber reads the name of an argument, a2 or a2[1]: the number of the argument and
// that of its piece.
func argumentNumber(name []byte) (nr, piece int, ok bool) {
	if len(name) < 2 || name[0] != 'a' {
		return 0, 0, false
	}
	number, part, split := bytes.Cut(name[1:], []byte{'['})
	nr, err := strconv.Atoi(string(number))
	if err != nil || nr < 0 {
		return 0, 0, false
	}
	if split {
		if piece, err = strconv.Atoi(strings.TrimSuffix(string(part), "]")); err != nil {
			return 0, 0, false
		}
	}
	return nr, piece, true
}
