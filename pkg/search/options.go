package search

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
)

var escapeNames = [...]string{"tty", "raw", "shell", "shell_quote"}

// Options holds a parsed ausearch command line.
type Options struct {
	Query query.Query
	Own
	output.Config

	JustOne bool
	Debug   bool

	Input          string // -if: a file or folder; when empty, the logs or standard input are read
	InputLogs      bool   // --input-logs: read the logs even if standard input is a pipe
	Checkpoint     string // --checkpoint: path of the checkpoint file
	CheckpointTime bool   // -ts checkpoint: use only the time in that file
	EOETimeout     time.Duration

	// Notes are messages about the command line, to be printed before the results.
	Notes []string
	// LocalIDs are notes about names of users and groups for which records without names
	// are searched by the number that this machine's accounts give. They are for a search
	// of many hosts' events.
	LocalIDs []string

	nothing []string // notes for when nothing is found

	// ErrorCode is the exit code when a search cannot be made; 0 stands for 1, the stock
	// tool's, which is also that of one that finds nothing.
	ErrorCode int

	Help    bool
	Version bool

	// Extra maps each option that Env.Extra named to the values given for it.
	Extra map[string][]string

	stock bool      // the program goes by the stock tool's name
	now   time.Time // Env.Now where the caller has set it

	// Seen lists the canonical names of the options given ("--key"), in order.
	Seen []string
}

// Env holds what a command line depends on besides its words: the clock, the locale, the
// machine and its accounts. The zero value stands for this machine, now.
type Env struct {
	Now      time.Time      // current time; zero stands for time.Now
	Location *time.Location // time zone; nil stands for time.Local
	// Locale decides how a date is written ("en_US.UTF-8"); empty stands for the locale
	// of LC_ALL, LC_TIME or LANG.
	Locale string
	// Machine is the architecture by which names of system calls, b32 and b64 are
	// resolved; empty stands for this machine's.
	Machine string
	// Names translates ids into names; nil stands for this machine's accounts.
	Names interpret.Names
	// UserID and GroupID look an account up by name; nil stands for this machine's
	// accounts.
	UserID, GroupID func(name string) (uint32, bool)
	// Uptime returns how long the machine has been running, for the time "boot"; nil
	// stands for /proc/uptime.
	Uptime func() (time.Duration, error)
	// Strangers accepts names of users and groups that this machine does not know,
	// because other hosts of a fleet may. They are searched for in records that carry
	// names.
	Strangers bool
	// Stock says that the program goes by the stock tool's name: it says no more than that
	// does.
	Stock bool
	// Extra names additional options ("--store"); the value says whether the option takes
	// a value.
	Extra map[string]bool
}

// CodeError is the ErrorCode under our own names: nothing found and not searched are two
// things there.
const CodeError = 2

// Failed returns the exit code for a search that cannot be made.
func (o *Options) Failed() int { return cmp.Or(o.ErrorCode, 1) }

// UsageError is returned for a command line that is wrong; the stock tool then exits with
// 1. Its text is printed to standard error and has no newline at its end.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// ErrNoOptions is returned when the command line is empty: the caller prints the usage.
var ErrNoOptions = errors.New("search: no options given")

func usagef(format string, args ...any) error {
	return &UsageError{Text: fmt.Sprintf(format, args...)}
}

// canonical returns the long name of an option in either spelling.
func canonical(name string) (string, bool) {
	o := options.Find(name)
	if o == nil {
		return "", false
	}
	return o.Names[len(o.Names)-1], true
}

// parser holds the state of one call of ParseArgs.
type parser struct {
	env  Env
	args []string
	pos  int // of the option being read
	name string
	o    *Options

	word    bool
	regexp  bool           // --regex
	tests   []query.Filter // --field
	bounds  [][2]int64     // of --expression
	machine uint32         // AUDIT_ARCH_*, when hasMachine
	hasMachine,
	hasSyscall bool
	start, end int64                 // in milliseconds since the epoch; 0 when not given
	terms      map[string]query.Term // by canonical option: the last one counts
	order      []string
}

// ParseArgs parses an ausearch command line; args does not contain the program's name.
// The error is ErrNoOptions, or a *UsageError whose text is that of the stock tool.
func ParseArgs(args []string, env Env) (*Options, error) {
	if len(args) == 0 {
		return nil, ErrNoOptions
	}
	now := env.Now
	env = env.withDefaults()
	args = ownOptions.SplitEquals(args)
	p := &parser{env: env, args: args, o: &Options{now: now, Config: output.Config{Locale: env.Locale, Names: env.Names}}, terms: map[string]query.Term{}}
	for p.pos = 0; p.pos < len(args); p.pos++ {
		p.name = args[p.pos]
		opt, ok := canonical(p.name)
		if !ok {
			if takes, ours := p.env.Extra[p.name]; ours {
				if err := p.extra(takes); err != nil {
					return nil, err
				}
				continue
			}
			return nil, usagef("%s is an unsupported option%s", p.name, p.env.OptionHint(p.name, options))
		}
		p.o.Seen = append(p.o.Seen, opt)
		if err := p.option(opt); err != nil {
			return nil, err
		}
		if p.o.Help || p.o.Version {
			return p.o, nil
		}
	}
	return p.finish()
}

func (p *parser) finish() (*Options, error) {
	o := p.o
	if (o.ExtraTime || o.ExtraLabels || o.ExtraKeys) && o.Format != output.FormatCSV && !o.CSVQuoted {
		return nil, usagef("--extra options requires format to be csv")
	}
	for _, opt := range p.order {
		t := p.terms[opt]
		if stringTerm(opt) {
			if err := p.termOp(opt, &t); err != nil {
				return nil, err
			}
		}
		o.Query.Terms = append(o.Query.Terms, t)
	}
	if p.hasMachine {
		o.Query.Terms = append(o.Query.Terms, query.Term{Fields: []query.Field{query.FieldArch}, Text: query.Number(query.FieldArch, int64(p.machine))})
	}
	o.Query.StartMs, o.Query.EndMs = p.start, p.end
	if !o.Follow {
		o.Notes = append(o.Notes, p.env.RangeNotes(p.start, p.end)...)
	}
	if err := p.finishOwn(); err != nil {
		return nil, err
	}
	o.Query.Origin = o.Format == output.FormatJSON || o.Format == output.FormatLine
	return o, nil
}

// stringTerm says whether an option's value is part of a string unless --word.
func stringTerm(opt string) bool {
	switch opt {
	case "--comm", "--file", "--host", "--key", "--terminal", "--executable", "--uuid", "--vm-name", "--object", "--subject", "--context":
		return true
	}
	return false
}

func (p *parser) term(opt string, t query.Term) {
	if _, again := p.terms[opt]; !again {
		p.order = append(p.order, opt)
	}
	p.terms[opt] = t
}

// value returns the option's argument and steps over it. As in the stock tool
// an argument cannot start with '-', unless negative is set.
func (p *parser) value(negative bool) (string, error) {
	if v, ok := p.peek(1); ok {
		p.pos++
		return v, nil
	}
	if negative && p.pos+1 < len(p.args) {
		p.pos++
		return p.args[p.pos], nil
	}
	return "", usagef("Argument is required for %s", p.name)
}

// peek returns the n-th argument after the option when it is not an option.
func (p *parser) peek(n int) (string, bool) {
	if p.pos+n >= len(p.args) || strings.HasPrefix(p.args[p.pos+n], "-") {
		return "", false
	}
	return p.args[p.pos+n], true
}

// noValue refuses an argument.
func (p *parser) noValue() error {
	if _, ok := p.peek(1); ok {
		return usagef("Argument is NOT required for %s", p.name)
	}
	return nil
}

func (p *parser) extra(takes bool) error {
	if p.o.Extra == nil {
		p.o.Extra = map[string][]string{}
	}
	v := ""
	if takes {
		if p.pos+1 >= len(p.args) {
			return usagef("Argument is required for %s", p.name)
		}
		p.pos++
		v = p.args[p.pos]
	}
	p.o.Extra[p.name] = append(p.o.Extra[p.name], v)
	return nil
}

// option reads one option and its arguments.
func (p *parser) option(opt string) error {
	o := p.o
	switch opt {
	case "--word":
		p.word = true
	case "--input-logs":
		o.InputLogs = true
	case "--just-one":
		o.JustOne = true
	case "--line-buffered":
		o.LineBuffered = true
	case "--debug":
		o.Debug = true
	case "--help":
		o.Help = true
	case "--version":
		o.Version = true
	case "--extra-keys":
		o.ExtraKeys = true
		return p.noValue()
	case "--extra-labels":
		o.ExtraLabels = true
		return p.noValue()
	case "--extra-obj2":
		o.ExtraObj2 = true
		return p.noValue()
	case "--extra-time":
		o.ExtraTime = true
		return p.noValue()
	case "--interpret":
		if o.Format == output.FormatJSON {
			o.Words = true
			return p.noValue()
		}
		if o.Format != output.FormatDefault {
			return usagef("Conflicting output format %s%s", p.name, conflict(o.Format))
		}
		o.Format = output.FormatInterpret
		return p.noValue()
	case "--raw":
		if o.Format != output.FormatDefault {
			return usagef("Conflicting output format --raw")
		}
		o.Format = output.FormatRaw
		if err := p.noValue(); err != nil {
			return usagef("Argument is NOT required for --raw")
		}
	case "--start":
		return p.startTime()
	case "--end":
		return p.endTime()
	default:
		if ours, err := p.ownOption(opt); ours {
			return err
		}
		return p.valued(opt)
	}
	return nil
}
