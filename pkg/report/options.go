package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// Change restricts a report to events that added, or that deleted, an account, a group or
// a label.
type Change uint8

// Changes.
const (
	AnyChange Change = iota
	Added
	Deleted
)

// Result restricts a report to events that succeeded, or that failed.
type Result uint8

// Results.
const (
	AnyResult Result = iota
	OnlyFailed
	OnlySuccess
)

// Options holds a parsed aureport command line.
type Options struct {
	Kind     Kind
	Summary  bool
	Result   Result
	Change   Change
	NoConfig bool // leave out events that start with CONFIG_CHANGE
	Nodes    []string
	// Mismatch is query.Query's; set by the caller, not by ParseArgs.
	Mismatch bool
	From     []netip.Prefix // networks of the senders, as in query.Query; set by the caller, not by ParseArgs

	// StartMs and EndMs are the first and the last time selected, both inclusive, in
	// milliseconds since the epoch; 0 sets no bound.
	StartMs, EndMs int64

	Interpret bool
	Escape    interpret.Escape
	Debug     bool

	Input      string // -if: a file or folder; when empty, the logs or standard input are read
	InputLogs  bool
	EOETimeout time.Duration

	Locale string // locale whose date format is used
	// Names translates ids; nil stands for this machine's accounts.
	Names interpret.Names
	Fleet bool // the events are of many hosts; see query.Query

	Group  *Group // --by; nil for the stock reports
	Format Format // --format
	Top    int    // --top: how many values of a summary, or groups, are shown; 0 shows all

	// Terms and Filters select the report's events by --field and --expression, as in a
	// search.
	Terms   []query.Term
	Filters []query.Filter

	// ByValue sorts values that a summary counts equally often by value instead of by
	// first appearance. A source that returns events in no fixed order needs it.
	ByValue bool

	// FirstMs is the time at which the logs begin, in milliseconds since the epoch, where
	// the first selected event is not the first event of the logs; 0 means that it is not
	// known.
	FirstMs int64

	// Memory is what counting may take for the different values; nil sets no bound.
	Memory *query.Memory

	NoPager bool // --no-pager
	CSVSafe bool // --csv-safe: --format csv writes no cell that a spreadsheet takes for a formula
	Columns int  // width of the terminal that shows the report; 0 when the output is no terminal
	people  bool // it is shown on one, and must not move it
	bare    bool // as the stock tool does, which lets some control characters through

	// Notes are messages about the command line, to be printed before the report.
	Notes []string

	// IfNothing, if set, is called once the report is written if no event was what it is
	// about and what --node, --field and --expression ask for.
	IfNothing func()

	// ErrorCode is the exit code when a report cannot be written; 0 stands for 1, the
	// stock tool's, which is also that of a list without lines.
	ErrorCode int

	Help, Version bool

	// Extra maps each option that Env.Extra named to the values given for it.
	Extra map[string][]string
}

// Failed returns the exit code for a report that cannot be written.
func (o *Options) Failed() int { return cmp.Or(o.ErrorCode, 1) }

// UsageError is returned for a command line that is wrong; the stock tool then exits with
// 1. Its text is printed to standard error.
type UsageError = search.UsageError

func usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}

// unimplemented is what aureport says where it once meant to have more.
const unimplemented = "Unimplemented option"

// parser holds the state of one call of ParseArgs.
type parser struct {
	env  search.Env
	args []string
	pos  int // of the option being read
	o    *Options
}

// ParseArgs parses an aureport command line; args does not contain the program's name.
// The error is a *UsageError whose text is that of the stock tool. env has the meaning
// that it has in search.ParseArgs.
func ParseArgs(args []string, env search.Env) (*Options, error) {
	p := &parser{env: env, args: args, o: &Options{Names: env.Names}}
	for p.pos = 0; p.pos < len(args); p.pos++ {
		if err := p.option(args[p.pos]); err != nil {
			return nil, err
		}
		if p.o.Help || p.o.Version {
			return p.o, nil
		}
	}
	p.o.Locale = env.LocaleName()
	if p.o.Kind == Unset {
		p.o.Kind, p.o.Summary = Overview, true
	}
	p.o.Notes = append(p.o.Notes, env.RangeNotes(p.o.StartMs, p.o.EndMs)...)
	return p.o, p.ownDone()
}

func (p *parser) option(name string) error {
	if o, ok := byOption()[name]; ok {
		return o.read(p, name)
	}
	if takes, ok := p.env.Extra[name]; ok {
		return p.extra(name, takes)
	}
	return usagef("%s is an unsupported option%s", name, p.hint(name, p.args[max(0, p.pos-1)]))
}

// reportFields are the fields that a report is about, where one can be searched for.
var reportFields = map[Kind]string{
	Key: "key", Exe: "exe", File: "file", User: "auid", PID: "pid", Terminal: "terminal", Syscall: "syscall", Host: "host", Comm: "comm",
}

// hint says what may have been meant by a word that is no option, by the one before it.
func (p *parser) hint(word, before string) string {
	switch {
	case p.env.Stock:
		return ""
	case strings.HasPrefix(word, "-"):
		return p.env.OptionHint(word, OptionTable())
	case p.o.Kind == Anomaly && before == "-n":
		return "\n  -n is the report on anomalies; the events of a machine are those of --node " + word
	}
	if field := reportFields[p.o.Kind]; field != "" {
		return fmt.Sprintf("\n  a report takes no value: --field %s=%s chooses the events", field, word)
	}
	return "\n  a word belongs behind an option; --field NAME=VALUE chooses the events"
}

// maxPath is the longest path that the stock tool accepts; it reserves 32 bytes of
// PATH_MAX to append a file name.
const maxPath = 4096 - 32

// peek returns the n-th argument after the option when it is not an option.
func (p *parser) peek(n int) (string, bool) {
	if p.pos+n >= len(p.args) || strings.HasPrefix(p.args[p.pos+n], "-") {
		return "", false
	}
	return p.args[p.pos+n], true
}

func (p *parser) value() (string, error) {
	v, ok := p.peek(1)
	if !ok {
		return "", usagef("Argument is required for %s", p.args[p.pos])
	}
	p.pos++
	return v, nil
}

func (p *parser) report(k Kind) error {
	if p.o.Kind != Unset {
		return usagef("Error - only one report can be specified")
	}
	p.o.Kind = k
	if v, word := p.peek(1); word && reports[k].value {
		return usagef("%s%s", unimplemented, p.hint(v, p.args[p.pos]))
	}
	return nil
}

// shared reads an option that ausearch has, too, and in the same form.
func (p *parser) shared(name string) error {
	rest := p.args[p.pos+1:]
	n := 0
	if name == "-ts" || name == "--start" || name == "-te" || name == "--end" {
		n = timespec.Words(rest)
	} else if _, ok := p.peek(1); ok {
		n = 1
	}
	args := append([]string{name}, rest[:n]...)
	p.pos += n
	env := p.env
	env.Extra = nil
	o, err := search.ParseArgs(args, env)
	if err != nil {
		return err
	}
	switch name {
	case "-ts", "--start":
		if o.CheckpointTime { // a word of ausearch's only
			return usagef("Invalid start date (%s). Month, Day, and Year are required.", args[1])
		}
		p.o.StartMs = o.Query.StartMs
	case "-te", "--end":
		p.o.EndMs = o.Query.EndMs
	case "--escape":
		p.o.Escape = o.Escape
	case "--field", "--expression":
		p.o.Terms = append(p.o.Terms, o.Query.Terms...)
		p.o.Filters = append(p.o.Filters, o.Query.Filters...)
	default:
		p.o.EOETimeout = o.EOETimeout
	}
	return nil
}

// extra reads an option that only the caller knows.
func (p *parser) extra(name string, takes bool) error {
	v := ""
	if takes {
		if p.pos+1 >= len(p.args) {
			return usagef("Argument is required for %s", name)
		}
		p.pos++
		v = p.args[p.pos]
	}
	if p.o.Extra == nil {
		p.o.Extra = map[string][]string{}
	}
	p.o.Extra[name] = append(p.o.Extra[name], v)
	return nil
}

// Query returns the query for the report's events. It may select more events than the
// report shows, never fewer: the printer decides about each event again.
func (o *Options) Query() *query.Query {
	q := &query.Query{Fleet: o.Fleet, StartMs: o.StartMs, EndMs: o.EndMs, Nodes: o.Nodes, From: o.From, Mismatch: o.Mismatch, Terms: o.Terms, Filters: o.Filters}
	if o.Group != nil {
		return q
	}
	s := &reports[o.Kind]
	types := s.types
	if o.Summary && s.sumTypes != nil {
		types = s.sumTypes
	}
	for _, t := range types {
		for n := t.low; n <= t.high; n++ {
			q.Types = append(q.Types, uint32(n))
		}
	}
	return q
}
