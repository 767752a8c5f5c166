package output

import (
	"github.com/auditfleet/auditfleet/pkg/interpret"
)

// Format is the format in which events are written.
type Format uint8

// Output formats. FormatJSON (JSON.md) and FormatLine are ours.
const (
	FormatDefault Format = iota
	FormatRaw
	FormatInterpret
	FormatCSV
	FormatText
	FormatJSON
	FormatLine // a sentence an event, for people
)

var formatNames = [...]string{"default", "raw", "interpret", "csv", "text", "json", "line"}

// FormatNames returns the values of --format, in the order of the Formats.
func FormatNames() []string { return formatNames[:] }

// String returns the format's name, as --format accepts it.
func (f Format) String() string { return formatNames[f] }

// Config says how to write events. Its zero value writes the stock tool's default format.
type Config struct {
	Format       Format
	Escape       interpret.Escape
	LineBuffered bool // each event is flushed to the output at once
	ExtraKeys    bool // this and the next three: FormatCSV with these columns, too
	ExtraLabels  bool
	ExtraObj2    bool
	ExtraTime    bool
	CSVSafe      bool // FormatCSV: no cell is a formula to a spreadsheet
	CSVQuoted    bool // FormatCSV: as RFC 4180 has it, and as safe as with CSVSafe, but for numbers
	NoCR         bool // and its lines end in a newline alone, for a terminal
	Words        bool // FormatJSON: the interpretation of each value is written beside the value
	Milliseconds bool // FormatLine: times have milliseconds
	WithHost     bool // the line between events contains the host
	Color        bool
	Bare         bool // text reaches a terminal unchanged

	// Locale is the locale whose date format is used, where the format has dates; empty
	// stands for "C". Names translates ids; nil stands for the accounts of this machine.
	Locale string
	Names  interpret.Names

	// Warn, if set, is called when the format cannot represent something of an event (a
	// line without a newline, for example). Workers of a search call it from their
	// goroutines, so it must be safe for concurrent use.
	Warn func(text string)
}
