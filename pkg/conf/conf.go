// Package conf reads configuration files in the grammar of the stock audit daemon: one
// `key = value` per line. It defines the keys of auditd.conf(5), audisp-remote.conf(5)
// and plugins.d as typed structs, and a program can add keys of its own. It imports no
// other package of this module; wiring and command-line packages may import it.
//
// A schema is a list of Keys. Each Key stores its value in a variable of the caller.
// Errors name the file and the line, and all errors of a file are reported together. The
// package has no shared state, but a schema writes to the variables that it is bound to:
// only one goroutine may use it at a time.
package conf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/pkg/fsys"
	"github.com/auditfleet/auditfleet/pkg/nearest"
)

// maxFile is the largest file that is read, in bytes; a configuration file has a page or
// two.
const maxFile = 1 << 20

// Key is one keyword of a schema.
type Key struct {
	Name string // lower case
	// Words is the number of words that the value may have: 0 stands for 1, and -1 for
	// any number. Several words are passed on with single spaces between them.
	Words int
	// Each says that several lines may have the key, of which each adds something.
	Each bool
	// Empty is called for `key =` without a value. If it is nil, that is an error.
	Empty func()
	// Set checks and stores a value. Its error is reported as "file:line: key: error".
	Set func(value string) error
	// Loose replaces Set for a value on a command line if more is allowed there: a path
	// may be relative. If it is nil, Set is used.
	Loose func(value string) error
	// Get returns the stored value in the form of a file. It is nil if the key stores
	// none.
	Get func() string
	// Range describes the allowed values in words for manual pages: "1 to 1024". ""
	// allows any value.
	Range string
	// OneOf lists the allowed words; nil if there is no such list.
	OneOf []string
	// Note returns a warning about a value, such as that the key has no effect here or
	// that the value is deprecated; "" for none.
	Note func(value string) string
}

// Schema lists the keywords that a file may contain.
type Schema []Key

// Key returns the key called name. It panics if there is none, because programs ask only
// for keys of schemas that they know.
func (s Schema) Key(name string) Key {
	i := slices.IndexFunc(s, func(k Key) bool { return k.Name == name })
	if i < 0 {
		panic("no key " + name)
	}
	return s[i]
}

// Names returns the keywords in the order of the schema.
func (s Schema) Names() []string {
	names := make([]string, len(s))
	for i, k := range s {
		names[i] = k.Name
	}
	return names
}

// File is a parsed file: which keys it sets, and in which lines.
type File struct {
	Path     string
	Warnings []*Error
	lines    map[string]int
	values   map[string]string
	errs     Errors
}

// Error is one problem in a file. Line is 0 if the problem concerns the whole file.
type Error struct {
	File string
	Line int
	Key  string
	Msg  string
	Hint string // what to do, or empty
	err  error  // the system's own, or nil
}

func (e *Error) Unwrap() error { return e.err }

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Errors holds all problems of a file, in the order of its lines.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads the file at path against schema. If the file does not exist, the error wraps
// fs.ErrNotExist; problems in the file's content are returned as Errors.
func Load(path string, schema Schema) (*File, error) {
	f, err := fsys.OpenRegular(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, asError(err)
	}
	defer f.Close()
	return read(path, f, schema)
}

// LoadSecure is Load for a file that tells a daemon which programs to run or where to
// send records. As the stock daemon does, it refuses a symbolic link, anything but a
// regular file, a file that belongs neither to root nor to the running user, and a file
// that others may write.
func LoadSecure(path string, schema Schema) (*File, error) {
	f, err := fsys.OpenTrusted(path, unix.O_NOFOLLOW)
	if err != nil {
		return nil, asError(err)
	}
	defer f.Close()
	return read(path, f, schema)
}

// LoadLinked is LoadSecure, but follows a symbolic link that belongs to root or the
// running user, as the stock daemon does when it is told to. LoadSecure's conditions
// apply to the link's target.
func LoadLinked(path string, schema Schema) (*File, error) {
	if err := fsys.CheckLink(path); err != nil {
		return nil, asError(err)
	}
	f, err := fsys.OpenTrusted(path, 0)
	if err != nil {
		return nil, asError(err)
	}
	defer f.Close()
	return read(path, f, schema)
}

// asError turns the error about a file that cannot be trusted into an *Error.
func asError(err error) error {
	var unsafe *fsys.UnsafeError
	if errors.As(err, &unsafe) {
		return &Error{File: unsafe.Path, Msg: unsafe.Why, Hint: unsafe.Fix, err: err}
	}
	return err
}

func read(path string, r io.Reader, schema Schema) (*File, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, &Error{File: path, Msg: fmt.Sprintf("is larger than %d bytes", maxFile)}
	}
	return Parse(path, text, schema)
}

// Parse reads text as the file called name. The File is returned also with
// Errors, for its lines and warnings.
//
// The grammar is the stock parser's: key, equal sign and value apart by spaces,
// keys and enumerated values in any case, a line that begins with # is a
// comment, a # elsewhere is not. Beyond it: tabs separate too, the spaces
// around the equal sign may be left out, a line may be longer than 160 bytes,
// the last line may lack its newline, and a repeated key is warned of (the last
// one counts, as there).
func Parse(name string, text []byte, schema Schema) (*File, error) {
	f := &File{Path: name, lines: map[string]int{}, values: map[string]string{}}
	for n := 1; len(text) > 0; n++ {
		line, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
		f.line(n, line, schema)
	}
	return f, f.Err()
}

func (f *File) line(n int, raw []byte, schema Schema) {
	line := strings.Trim(string(raw), " \t")
	if line == "" || line[0] == '#' {
		return
	}
	if n == 1 && strings.HasPrefix(line, "\ufeff") {
		f.fail(n, "", "the file begins with a byte order mark, which is no part of a keyword", "save the file as UTF-8 without BOM")
		return
	}
	if strings.HasSuffix(line, "\r") {
		f.fail(n, "", "line ends with a carriage return", "save the file with Unix line ends")
		return
	}
	if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
		f.fail(n, "", fmt.Sprintf("control character %#x in the line", line[i]), "")
		return
	}
	key, value, found := strings.Cut(line, "=")
	key = strings.TrimRight(key, " \t")
	words := strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == '\t' })
	switch {
	case !found:
		f.fail(n, "", fmt.Sprintf("missing equal sign after %q", clip(line)), "write: key = value")
		return
	case key == "":
		f.fail(n, "", "missing keyword before the equal sign", "write: key = value")
		return
	case strings.ContainsAny(key, " \t"):
		f.fail(n, "", fmt.Sprintf("several words before the equal sign: %q", clip(key)), "write: key = value")
		return
	}
	key = strings.ToLower(key)
	i := slices.IndexFunc(schema, func(k Key) bool { return k.Name == key })
	if i < 0 {
		hint := ""
		if near := nearest.Word(key, max(len(key)/3, 1), schema.Names()); near != "" {
			hint = "did you mean " + near + "?"
		}
		f.fail(n, "", fmt.Sprintf("unknown keyword %q", clip(key)), hint)
		return
	}
	f.set(n, schema[i], words)
}

func (f *File) set(n int, k Key, words []string) {
	if len(words) == 0 {
		if k.Empty == nil {
			f.fail(n, k.Name, "missing value", "remove the line to have the default")
			return
		}
		f.lines[k.Name], f.values[k.Name] = n, ""
		k.Empty()
		return
	}
	most := max(k.Words, 1)
	if k.Words >= 0 && len(words) > most {
		hint := ""
		if strings.HasPrefix(words[most], "#") {
			hint = "a comment needs a line of its own"
		}
		f.fail(n, k.Name, fmt.Sprintf("unexpected %q after the value", clip(words[most])), hint)
		return
	}
	value := strings.Join(words, " ")
	if before, twice := f.lines[k.Name]; twice && !k.Each {
		f.warn(n, k.Name, fmt.Sprintf("set before in line %d; this line counts", before))
	}
	f.lines[k.Name], f.values[k.Name] = n, value
	if k.Set != nil {
		if err := k.Set(value); err != nil {
			f.fail(n, k.Name, err.Error(), "")
			return
		}
	}
	if k.Note != nil {
		if note := k.Note(value); note != "" {
			f.warn(n, k.Name, note)
		}
	}
}

func (f *File) fail(line int, key, msg, hint string) {
	f.errs = append(f.errs, &Error{File: f.Path, Line: line, Key: key, Msg: msg, Hint: hint})
}

func (f *File) warn(line int, key, msg string) {
	f.Warnings = append(f.Warnings, &Error{File: f.Path, Line: line, Key: key, Msg: msg})
}

// Errorf adds an error at the line that sets key, or without a line if no line does. It
// serves checks that concern several keys. Err returns the added errors with the others.
func (f *File) Errorf(key, format string, args ...any) {
	f.fail(f.Line(key), key, fmt.Sprintf(format, args...), "")
}

// Warnf adds a warning in the same way.
func (f *File) Warnf(key, format string, args ...any) {
	f.warn(f.Line(key), key, fmt.Sprintf(format, args...))
}

// Err returns all errors as Errors, or nil if there are none.
func (f *File) Err() error {
	if len(f.errs) == 0 {
		return nil
	}
	slices.SortStableFunc(f.errs, func(a, b *Error) int { return a.Line - b.Line })
	return f.errs
}

// Line returns the number of the line that last set key, or 0.
func (f *File) Line(key string) int {
	if f == nil {
		return 0
	}
	return f.lines[key]
}

// Has reports whether the file sets a key.
func (f *File) Has(key string) bool { return f.Line(key) > 0 }

// Value returns the value of key as written, or "" if the file does not set it.
func (f *File) Value(key string) string {
	if f == nil {
		return ""
	}
	return f.values[key]
}

// clip keeps a message from repeating a line of a megabyte.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
