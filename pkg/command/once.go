package command

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// once makes a flag with one value refuse another: the first would be lost without a word.
func once(f *pflag.Flag) {
	switch v := f.Value.(type) {
	case pflag.SliceValue, *single:
		return
	case interface{ Repeats() bool }: // of pkg/settings
		if v.Repeats() {
			return
		}
	}
	f.Value = &single{Value: f.Value}
}

// single is a value that may be set once, or again to the same.
type single struct {
	pflag.Value
	text  string
	given bool
}

// Twice is the error for an option that has one value and was given two.
func Twice(first, second string) error {
	return fmt.Errorf("given twice, as %.200q and as %.200q: give it once", first, second)
}

// Set implements pflag.Value.
func (s *single) Set(text string) error {
	if s.given && text != s.text {
		return Twice(s.text, text)
	}
	s.text, s.given = text, true
	return s.Value.Set(text)
}

// Duration is a flag's value: how long something takes, as pkg/timespec reads it.
type Duration struct{ To *time.Duration }

// Set implements pflag.Value.
func (d Duration) Set(text string) error {
	v, err := timespec.Duration(text)
	if err == nil {
		*d.To = v
	}
	return err
}

// String implements pflag.Value.
func (d Duration) String() string {
	if d.To == nil {
		return ""
	}
	return d.To.String()
}

// Type implements pflag.Value.
func (d Duration) Type() string { return "duration" }
