package output

import (
	"github.com/auditfleet/auditfleet/pkg/interpret"
)

// Format is how a found event is written.
type Format uint8

// Output formats. FormatJSON is ours (JSON.md).
const (
	FormatDefault Format = iota
	FormatRaw
	FormatInterpret
	FormatCSV
	FormatText
	FormatJSON
)

var formatNames = [...]string{"default", "raw", "interpret", "csv", "text", "json"}

// FormatNames are what --format takes, in the order of the Formats.
func FormatNames() []string { return formatNames[:] }

// String is the format's name as --format takes it.
func (f Format) String() string { return formatNames[f] }

// Config is how events are written. The zero value is the stock tool's default.
type Config struct {
	Format       Format
	Escape       interpret.Escape
	LineBuffered bool // each event is written at once
	ExtraKeys    bool // FormatCSV with these columns, too
	ExtraLabels  bool
	ExtraObj2    bool
	ExtraTime    bool
	CSVSafe      bool // FormatCSV: no cell is a formula
	Words        bool // FormatJSON: what values mean, beside the values
	WithHost     bool // the host in the line between events
	Color        bool
	Bare         bool // a terminal is given the text as it is

	// Locale is how dates are written where the format has any, and Names what
	// ids are interpreted by; empty and nil are C and this machine's accounts.
	Locale string
	Names  interpret.Names

	// Warn, if set, is told what a format cannot say of an event (a line without a
	// newline). Searches with workers call it from any of them.
	Warn func(text string)
}
