package settings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/option"
)

// FlagName returns the name of the flag for a key.
func FlagName(key string) string { return strings.ReplaceAll(key, "_", "-") }

// AddFlags adds a flag for each setting that has one. A flag checks and stores its value
// as its key does.
func (t Table) AddFlags(flags *pflag.FlagSet) {
	for s := range t.All() {
		if s.In == FileOnly {
			continue
		}
		f := flags.VarPF(&flag{setting: s}, FlagName(s.Name), "", s.help())
		if s.IsSwitch() {
			f.NoOptDefVal = "true"
		}
	}
}

// Apply stores the values of the flags that the user gave. flags must have been filled by
// AddFlags of a table of the same program.
func (t Table) Apply(flags *pflag.FlagSet) error {
	for s := range t.All() {
		if f := flags.Lookup(FlagName(s.Name)); f != nil && f.Changed && s.In != FileOnly {
			if err := s.set(f.Value.String()); err != nil {
				return fmt.Errorf("--%s: %w", f.Name, err)
			}
		}
	}
	return nil
}

// Words returns the completions of the flags' values: the words of a list, and files or
// folders where ValueName says so.
func (t Table) Words() map[string]option.Words {
	words := map[string]option.Words{}
	for s := range t.All() {
		if s.In == FileOnly || s.IsSwitch() {
			continue
		}
		var w option.Words
		if len(s.OneOf) > 0 {
			w = option.These(s.OneOf...)
		}
		w.Files, w.Folders = s.Arg == "FILE" || s.Arg == "SOCKET", s.Arg == "FOLDER"
		words[FlagName(s.Name)] = w
	}
	return words
}

// IsSwitch reports whether the setting is yes or no: its flag needs no value.
func (s *Setting) IsSwitch() bool { return slices.Equal(s.OneOf, []string{"yes", "no"}) }

// ValueName returns what texts call the value.
func (s *Setting) ValueName() string {
	if s.Arg == "" {
		return strings.Join(s.OneOf, "|")
	}
	return s.Arg
}

// help is the first sentence of Doc as the list of flags has it.
func (s *Setting) help() string {
	text, _, _ := strings.Cut(s.Doc, "\n")
	text = strings.TrimSuffix(text, ".")
	if len(text) > 1 && strings.ToLower(text[1:2]) == text[1:2] { // not an abbreviation
		text = strings.ToLower(text[:1]) + text[1:]
	}
	if len(s.OneOf) > 0 && s.Arg != "" {
		text += ": " + strings.Join(s.OneOf, ", ")
	}
	if s.Unset != "" {
		text += " (default " + s.Unset + ")"
	}
	return text
}

// flag implements pflag.Value.
type flag struct {
	setting Setting
	isGiven bool
	given   string
}

// Repeats reports whether the flag may be given again: it is a list.
func (f *flag) Repeats() bool { return f.setting.Words < 0 }

// Set implements pflag.Value. A list grows with each time that its flag is given. An empty one
// says that there is nothing, and so cannot stand beside another.
func (f *flag) Set(value string) error {
	if f.isGiven && f.Repeats() && (f.given == "") != (value == "") {
		return fmt.Errorf("given as %q and as \"\", which means none: leave one of them out", f.given+value)
	}
	if f.isGiven && f.Repeats() && value != "" {
		value = f.given + "," + value
	}
	if err := f.setting.set(value); err != nil {
		return err
	}
	f.given, f.isGiven = value, true
	return nil
}

// String implements pflag.Value: it is the value given, or the default.
func (f *flag) String() string {
	if f.isGiven || f.setting.Get == nil {
		return f.given
	}
	if f.setting.IsSwitch() { // as pflag writes it
		return map[string]string{"yes": "true", "no": "false"}[f.setting.Get()]
	}
	return f.setting.Get()
}

// Type implements pflag.Value: it is what the help calls the value.
func (f *flag) Type() string {
	if f.setting.IsSwitch() {
		return "bool"
	}
	return f.setting.ValueName()
}
