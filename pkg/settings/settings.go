// Package settings has what a program can be told declared once: a table of settings,
// each a key of pkg/conf with its flag, default and text. Flags, the keys of a file, help,
// completion, an example file and sections of manual pages are made from the table. The
// programs' cli packages import it.
//
// A program's values are made in three steps, each over the one before: Defaults, the
// file read with Schema, and Apply for the flags.
package settings

import (
	"fmt"
	"iter"

	"github.com/auditfleet/auditfleet/pkg/conf"
)

// Setting is one thing that a program can be told.
type Setting struct {
	// Key says how a value is checked, and where it is stored. Its name with dashes is
	// the flag's.
	conf.Key
	In Where

	// Default is the value where none is given, as fmt.Sprint writes it; nil: the one
	// that is stored where Key stores values before anything is read.
	Default any
	// Unset says in words what holds where no value is given, for a setting that has no
	// value then.
	Unset string
	// Restart says that a change has effect at the next start only.
	Restart bool
	Effect  Effect
	// For is the setting that has its value from this one, a stock key that means the same.
	For string

	// Arg is what the value is called: ADDR:PORT. "": the words of Key.OneOf.
	Arg string
	// Example is a value for the example file, where it is commented out; Advice one that
	// the file has instead of the default.
	Example, Advice string
	// Doc is one sentence a line, the first of which is also the flag's help. "": what the
	// next setting's says is said of both.
	Doc string
}

// Where is where a setting can be given.
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

// Section is settings that belong together.
type Section struct {
	Title   string
	Restart bool   // of all its settings
	Doc     string // what is to be said of all, one sentence a line
	List    []Setting
}

// Table is all settings of a program, or of a file.
type Table []Section

// All returns the settings in order. Restart is set where the section has it.
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

// Defaults stores every default. One that its own key refuses is a mistake in the
// table: it panics.
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

// Schema is the keys that a file may have.
func (t Table) Schema() (schema conf.Schema) {
	for s := range t.All() {
		if s.In != FlagOnly {
			schema = append(schema, s.Key)
		}
	}
	return schema
}

// Changed names the settings that have another value in the table is than in was, a table
// of the same program, and that need a restart.
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

// Idle names the keys of a file that do nothing.
func (t Table) Idle(f *conf.File) (names []string) {
	for s := range t.All() {
		if s.Effect == Idle && f.Has(s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}
