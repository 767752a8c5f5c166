package ruleset

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/rules"
)

// Suffix is what names of a folder's rule files end in.
const Suffix = ".rules"

// Merged is the result of merging a folder of rule files as augenrules does.
type Merged struct {
	Data     []byte    // the contents of audit.rules
	Warnings []Warning // what is not as it looks in the files
	lines    []origin  // of each line of Data
}

// Warning is a warning about a line of a file, or about the file if No is 0.
type Warning struct {
	File string
	No   int
	Msg  string
	Hint string
	// Wraps says that a number does not fit into 32 bits, so that the rule has another
	// number than the line. Lint treats it as an error.
	Wraps bool
	// Unread says that the file could not be read and its rules are missing.
	Unread bool
}

func asWarning(l *Line, w rules.Warning) Warning {
	hint := ""
	if w.Wraps {
		hint = "the kernel's numbers have 32 bits: at most 4294967295"
	}
	return Warning{File: l.File, No: l.No, Msg: w.Msg, Hint: hint, Wraps: w.Wraps}
}

// Refused returns the text of the warning as an error, in the form of a Failure.
func (w Warning) Refused() string {
	return strings.Replace(w.String(), ": warning: ", ": ", 1)
}

// String returns the printed text of the warning; each of its lines ends in a newline.
func (w Warning) String() string {
	place := w.File
	if w.No > 0 {
		place = fmt.Sprintf("%s:%d", w.File, w.No)
	}
	s := place + ": warning: " + w.Msg + "\n"
	if w.Hint != "" {
		s += "  " + w.Hint + "\n"
	}
	return s
}

type origin struct {
	file string
	no   int
	text string
}

// Merge reads the folder's rule files in natural order and puts them together as
// augenrules 3.0.9 does on Debian: blank lines and comments that begin a line go;
// the last -D alone on a line comes first, the last -b second, the last -f third
// and the last -e last, each an empty line when there is none. Only a control
// line that begins in the first column is moved; one that is indented stays, and
// is warned of.
//
// Files are joined as they are, so that a file without a newline at its end runs
// into the next one's first line; that is warned of too.
func Merge(dir string) (*Merged, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("merge rules: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, Suffix) && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, naturalCompare)
	m := &merger{out: &Merged{}}
	for _, name := range names {
		path := filepath.Join(dir, name)
		data, err := fsys.ReadRegular(path, MaxFile)
		if err != nil {
			m.out.Warnings = append(m.out.Warnings, Warning{
				File: path, Msg: "the file can't be read: " + cause(err), Hint: "its rules are missing; augenrules leaves it out as well", Unread: true,
			})
			continue
		}
		if strings.ContainsAny(name, " \t\n*?[\\") {
			m.warn(path, 0, "the file's name has characters that a shell takes apart", "it is read here, but augenrules leaves it out: rename it")
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o002 != 0 {
			m.warn(path, 0, "the file is world-writable: anybody may change what is audited", "chmod 0640 "+path)
		}
		if bytes.HasPrefix(data, []byte("\ufeff")) {
			m.warn(path, 1, "the file begins with a byte order mark, which makes its first line a wrong one", "save the file as UTF-8 without BOM")
		}
		m.file(path, data)
	}
	m.finish(dir)
	return m.out, nil
}

// MaxFile is the largest rule file that is read, in bytes.
const MaxFile = 64 << 20

func cause(err error) string {
	if u := (*fsys.UnsafeError)(nil); errors.As(err, &u) {
		return u.Why
	}
	if p := (*os.PathError)(nil); errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// merger collects the lines of all files.
type merger struct {
	out     *Merged
	partial *origin // the last file's last line, which had no newline
	first   [3]origin
	rest    []origin
	last    origin
}

func (m *merger) warn(file string, no int, msg, hint string) {
	m.out.Warnings = append(m.out.Warnings, Warning{File: file, No: no, Msg: msg, Hint: hint})
}

func (m *merger) file(path string, data []byte) {
	lines := splitLines(data)
	for i, text := range lines {
		o := origin{path, i + 1, text}
		if p := m.partial; p != nil {
			m.warn(p.file, p.no, "the file has no newline at its end: its last line and the first of "+path+" make one line",
				"end the file with a newline; augenrules joins them as well")
			o, m.partial = origin{p.file, p.no, p.text + text}, nil
		}
		if i == len(lines)-1 && data[len(data)-1] != '\n' {
			m.partial = &o
			return
		}
		m.line(o)
	}
}

func (m *merger) line(o origin) {
	switch t := o.text; {
	case t == "", t[0] == '#':
	case t == "-D":
		m.first[0] = m.control(m.first[0], o)
	case strings.HasPrefix(t, "-b"):
		m.first[1] = m.control(m.first[1], o)
	case strings.HasPrefix(t, "-f"):
		m.first[2] = m.control(m.first[2], o)
	case strings.HasPrefix(t, "-e"):
		m.last = m.control(m.last, o)
	default:
		m.rest = append(m.rest, o)
		m.misplaced(o)
	}
}

// control replaces a control line by a later one.
func (m *merger) control(old, o origin) origin {
	if old.no > 0 && old.text != o.text {
		m.warn(old.file, old.no, fmt.Sprintf("%s has no effect: %s:%d says %s", old.text, o.file, o.no, o.text), "")
	}
	return o
}

// misplaced warns of control lines that look as if they were moved.
func (m *merger) misplaced(o origin) {
	trimmed := strings.TrimSpace(o.text)
	if trimmed == o.text {
		return
	}
	word, rest, _ := strings.Cut(trimmed, " ")
	var where string
	switch {
	case word == "-D" && rest == "":
		where = "it deletes the rules of all lines before it; without blanks around it, it would come first"
	case word == "-b", word == "-f":
		where = "without blanks before it, it would come before all rules"
	case word == "-e":
		where = "without blanks before it, it would come after all rules"
	default:
		return
	}
	m.warn(o.file, o.no, "the blanks around "+word+" keep it where it stands among the rules", where)
}

func (m *merger) finish(dir string) {
	if m.partial != nil {
		m.line(*m.partial)
	}
	all := append([]origin{{text: "## This file is automatically generated from " + dir}}, m.first[:]...)
	all = append(append(all, m.rest...), m.last)
	m.out.lines = all
	for _, o := range all {
		m.out.Data = append(append(m.out.Data, o.text...), '\n')
	}
}

// File parses the merged rules. Each line's place is that in the file where it was
// written, not its place in Data.
func (m *Merged) File(name string, env rules.Env) *File {
	f := &File{Name: name}
	for _, o := range m.lines {
		f.add(o.file, o.no, o.text, env)
	}
	return f
}
