// Package settings declares every setting of a program once, in a table: each is a key of
// pkg/conf with its flag, default and text. Flags, the keys of a file, help, completion,
// an example file and sections of manual pages are generated from the table. The
// programs' cli packages import it.
//
// A program determines its values in three steps, each of which overrides the one before:
// Defaults, then the file that is read with Schema, then Apply for the flags.
package settings

import (
	"fmt"
	"iter"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// Setting is one setting of a program.
type Setting struct {
	// Key says how a value is checked, and where it is stored. Its name with dashes is
	// the flag's.
	conf.Key
	In Where

	// Default is the value if none is given, as fmt.Sprint writes it. If it is nil, the
	// default is the value that the Key's variable has before anything is read.
	Default any
	// Unset describes in words what applies if no value is given, for a setting that then
	// has no value.
	Unset string
	// Restart says that a change has effect at the next start only.
	Restart bool
	Effect  Effect
	// For is the name of the setting that gets its value from this one, a stock key with
	// the same meaning.
	For string

	// Arg is the name of the value in texts: ADDR:PORT. If it is "", texts list the words
	// of Key.OneOf.
	Arg string
	// Example is a value for the example file, where it is commented out; Advice one that
	// the file has instead of the default.
	Example, Advice string
	// Doc has one sentence in each line; the first is also the help of the flag. If it is
	// "", the text of the next setting describes both.
	Doc string
}

// Where says where a setting can be given.
type Where int

// In a file and by a flag, or one of them only.
const (
	FileAndFlag Where = iota
	FileOnly
	FlagOnly
)

// Effect is what a setting does.
type Effect int

// Fixed is a stock key that has one value here; Idle is one that a file may have and
// that does nothing. Neither is in the example file.
const (
	Acts Effect = iota
	Fixed
	Idle
)

// Section is a group of related settings.
type Section struct {
	Title   string
	Restart bool   // of all its settings
	Doc     string // what is to be said of all, one sentence a line
	List    []Setting
}

// Table holds all settings of a program, or of a file.
type Table []Section

// All iterates over the settings in order. Restart is also set if the section has it.
func (t Table) All() iter.Seq[Setting] {
	return func(yield func(Setting) bool) {
		for _, section := range t {
			for _, s := range section.List {
				s.Restart = s.Restart || section.Restart
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Defaults stores the default of every setting. It panics if a key refuses its own
// default, which is an error in the table.
func (t Table) Defaults() {
	for s := range t.All() {
		if s.Default == nil {
			continue
		}
		if err := s.set(fmt.Sprint(s.Default)); err != nil {
			panic(fmt.Sprintf("the default of %s: %v", s.Name, err))
		}
	}
}

// set is Set as a command line has it.
func (s *Setting) set(value string) error {
	if s.Loose != nil {
		return s.Loose(value)
	}
	return s.Set(value)
}

// Schema returns the keys that a file may contain. What is a flag, too, may be spelled as there;
// but a path is absolute, for a file does not say from where it would lead.
func (t Table) Schema() (schema conf.Schema) {
	for s := range t.All() {
		if s.In == FileAndFlag && s.IsSwitch() && s.Loose != nil {
			s.Set = s.Loose
		}
		if s.In != FlagOnly {
			schema = append(schema, s.Key)
		}
	}
	return schema
}

// Changed returns the names of the settings whose values in is and was differ and whose
// change needs a restart. Both are tables of the same program.
func Changed(was, is Table) (names []string) {
	before := map[string]string{}
	for s := range was.All() {
		if s.Get != nil {
			before[s.Name] = s.Get()
		}
	}
	for s := range is.All() {
		if s.Restart && s.In != FlagOnly && s.For == "" && s.Get != nil && s.Get() != before[s.Name] {
			names = append(names, s.Name)
		}
	}
	return names
}

// Idle returns the names of the keys in f that have no effect.
func (t Table) Idle(f *conf.File) (names []string) {
	for s := range t.All() {
		if s.Effect == Idle && f.Has(s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}
