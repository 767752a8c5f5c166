package report

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/nss"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// Change narrows a report to what added or removed an account, a group or a
// label.
type Change uint8

// Changes.
const (
	AnyChange Change = iota
	Added
	Deleted
)

// Result narrows a report by how events ended.
type Result uint8

// Results.
const (
	AnyResult Result = iota
	OnlyFailed
	OnlySuccess
)

// Options is a command line in aureport's words.
type Options struct {
	Kind     Kind
	Summary  bool
	Result   Result
	Change   Change
	NoConfig bool // leave out events that start with CONFIG_CHANGE
	Nodes    []string
	From     []netip.Prefix // as query.Query has it; the caller sets it

	// StartMs and EndMs bound the time, both inclusive, in milliseconds since the
	// epoch; 0 is open.
	StartMs, EndMs int64

	Interpret bool
	Escape    interpret.Escape
	Debug     bool

	Input      string // -if: a file or folder; empty is the logs, or stdin
	InputLogs  bool
	EOETimeout time.Duration

	Locale string // how dates are written
	Names  interpret.Names

	Group *Group // --by: our own reports

	// Terms and Filters narrow a report as they do a search: --field, --expression.
	Terms   []query.Term
	Filters []query.Filter

	// ByValue puts values that a summary counts equally often in their own order,
	// not in that of their first appearance: for sources that have no such order.
	ByValue bool

	// FirstMs is when the logs begin, where that is not with the first event
	// selected; 0 is not known.
	FirstMs int64

	NoPager bool // --no-pager
	CSVSafe bool // --csv-safe: no cell of --format csv is a formula
	Columns int  // of the terminal that it is shown on, 0 for none
	people  bool // it is shown on one, and must not move it
	bare    bool // as the stock tool does, which lets some control characters through

	Help, Version bool

	// Extra holds the values of the options that Env.Extra named, by name.
	Extra map[string][]string
}

// UsageError is a command line that cannot be followed; the stock tool exits with
// 1. Its text is what goes to stderr.
type UsageError = search.UsageError

func usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}

// unimplemented is what aureport says where it once meant to have more.
const unimplemented = "Unimplemented option"

// parser is the state of one ParseArgs.
type parser struct {
	env  search.Env
	args []string
	pos  int // of the option being read
	o    *Options
}

// ParseArgs reads an aureport command line, without the program's name. The error
// is a *UsageError with the stock tool's words. env is as for search.ParseArgs.
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
	if p.o.Names == nil {
		p.o.Names = nss.New(nss.Config{})
	}
	if p.o.Kind == Unset {
		p.o.Kind, p.o.Summary = Overview, true
	}
	return p.o, p.groupDone()
}

func (p *parser) option(name string) error {
	if o, ok := byOption()[name]; ok {
		return o.read(p, name)
	}
	if takes, ok := p.env.Extra[name]; ok {
		return p.extra(name, takes)
	}
	return usagef("%s is an unsupported option", name)
}

// maxPath is what the stock tool takes of a path, so that it can add a name.
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
	if _, word := p.peek(1); word && reports[k].value {
		return usagef(unimplemented)
	}
	return nil
}

// shared reads an option that ausearch has, too, and in the same form.
func (p *parser) shared(name string) error {
	args := []string{name}
	most := 1
	times := strings.HasPrefix(name, "-t") || name == "--start" || name == "--end"
	if times {
		most = 2
	}
	for n := 1; n <= most; n++ {
		v, ok := p.peek(n)
		if !ok {
			break
		}
		args = append(args, v)
	}
	p.pos += len(args) - 1
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

// Query is what a source must be asked for: all events that the report could be
// about.
func (o *Options) Query() *query.Query {
	q := &query.Query{StartMs: o.StartMs, EndMs: o.EndMs, Nodes: o.Nodes, From: o.From, Terms: o.Terms, Filters: o.Filters}
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
