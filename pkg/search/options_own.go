package search

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/interpret"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/timespec"
)

// Own holds the options that the stock tool does not have.
type Own struct {
	Limit   uint64 // --limit: the largest number of events; 0 sets no limit
	Count   bool   // --count: print the number of events instead of the events
	Reverse bool   // --reverse: the newest events first
	Follow  bool   // --follow: events as they arrive, from now or from -ts on
	Around  time.Duration
	Tree    bool
	Colors  string // --color: auto, always or never
	NoPager bool
}

// ownOption reads one of our own options; false when it is none.
func (p *parser) ownOption(opt string) (bool, error) {
	o := p.o
	switch opt {
	case "--count":
		o.Count = true
	case "--reverse":
		o.Reverse = true
	case "--follow":
		o.Follow = true
	case "--tree":
		o.Tree = true
	case "--with-host":
		o.WithHost = true
	case "--no-pager":
		o.NoPager = true
	case "--csv-safe":
		o.CSVSafe = true
	case "--milliseconds":
		o.Milliseconds = true
	case "--csv-rfc4180":
		o.CSVQuoted = true
	case "--regex":
		return true, p.regex()
	case "--limit", "--around", "--field", "--expression", "--color":
		v, err := p.value(opt == "--expression")
		if err != nil {
			return true, err
		}
		return true, p.ownValue(opt, v)
	default:
		return false, nil
	}
	return true, p.noValue()
}

func (p *parser) ownValue(opt, v string) error {
	o := &p.o.Own
	switch opt {
	case "--limit":
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil || n == 0 {
			return usagef("--limit must be a number from 1 on, was %s", v)
		}
		o.Limit = n
	case "--around":
		d, err := timespec.Duration(v)
		if isDigit(v) && strings.Trim(v, "0123456789") == "" {
			d, err = timespec.Duration(v + "s")
		}
		if err != nil || d < time.Millisecond || d > maxAround {
			return usagef("--around must be a time such as 30s or 5m, up to %v, was %s", maxAround, v)
		}
		o.Around = d
	case "--color":
		if !slices.Contains(colorNames[:], v) {
			return usagef("--color must be auto, always or never, was %s", v)
		}
		o.Colors, p.o.Color = v, v == "always"
	case "--expression":
		from, to, err := query.ExpressionTimes(v)
		if err != nil {
			return usagef("--expression: %v", err)
		}
		p.bounds = append(p.bounds, [2]int64{from, to})
		p.o.Query.Filters = append(p.o.Query.Filters, query.Filter{Expression: v})
	default:
		return p.field(v)
	}
	return nil
}

var colorNames = [...]string{"auto", "always", "never"}

const maxAround = 7 * 24 * time.Hour

// regex is --regex alone, which makes the text of other options regular
// expressions, or with one that any field's value may satisfy.
func (p *parser) regex() error {
	v, ok := p.peek(1)
	if !ok {
		p.regexp = true
		return nil
	}
	p.pos++
	if err := checkRegexp("--regex", v); err != nil {
		return err
	}
	p.tests = append(p.tests, query.Filter{Field: &query.FieldTest{Name: "*", Op: query.OpRegexp, Text: v}})
	return nil
}

func checkRegexp(opt, text string) error {
	if _, err := regexp.Compile(text); err != nil {
		return usagef("%s: %v", opt, err)
	}
	return nil
}

// fieldOptions are the fields whose values --field reads as an option does, which also says
// what they are in an event.
var fieldOptions = map[string]string{
	"pid": "--pid", "ppid": "--ppid", "auid": "--loginuid", "uid": "--uid", "euid": "--uid-effective", "gid": "--gid", "egid": "--gid-effective",
	"ses": "--session", "syscall": "--syscall", "arch": "--arch", "success": "--success", "exit": "--exit",
}

// fieldOf are the fields of fieldOptions by option.
var fieldOf = func() map[string]string {
	names := map[string]string{}
	for name, opt := range fieldOptions {
		names[opt] = name
	}
	return names
}()

// fieldTest is a --field taken apart.
type fieldTest struct {
	name string
	not  bool
	op   query.Op
	text string
}

// readField reads NAME=VALUE, NAME!=VALUE, NAME~REGEXP, NAME!~REGEXP, or NAME, one of
// < <= > >= and a number.
func readField(v string) (t fieldTest, err error) {
	at := strings.IndexAny(v, "=~!<>")
	if at <= 0 {
		return t, usagef("--field must be NAME=VALUE, NAME~REGEXP or NAME>NUMBER, was %s", v)
	}
	t.name = strings.TrimSpace(v[:at]) // uid >= 1000
	if !fieldName.MatchString(t.name) {
		return t, usagef("--field %s: %q cannot be the name of a field: that is letters, digits, _ and -", v, t.name)
	}
	blanks := len(t.name) < at
	for _, o := range [...]struct {
		spelling string
		op       query.Op
		not      bool
	}{
		{"==", query.OpContains, false}, {"!=", query.OpContains, true}, {"!~", query.OpRegexp, true}, {"=", query.OpContains, false}, {"~", query.OpRegexp, false},
		{"<=", query.OpLessEqual, false}, {"<", query.OpLess, false}, {">=", query.OpGreaterEqual, false}, {">", query.OpGreater, false},
	} {
		if text, ok := strings.CutPrefix(v[at:], o.spelling); ok && text != "" {
			if blanks {
				text = strings.TrimLeft(text, " ")
			}
			t.op, t.not, t.text = o.op, o.not, text
			break
		}
	}
	switch {
	case t.text == "":
		return t, usagef("--field must be NAME=VALUE, NAME~REGEXP or NAME>NUMBER, was %s", v)
	case t.op == query.OpRegexp:
		return t, checkRegexp("--field", t.text)
	case t.op >= query.OpLess:
		if _, err := strconv.ParseInt(t.text, 10, 64); err != nil || t.text[0] == '+' {
			return t, usagef("--field %s: %s is no whole number, and only numbers are less or more than others; write %s=%s or %s~%s", v, t.text, t.name, t.text, t.name, t.text)
		}
		if t.name == "arch" || t.name == "success" {
			return t, usagef("--field %s: %s is no number; write %s=…", v, t.name, t.name)
		}
	}
	return t, nil
}

// field reads a --field.
func (p *parser) field(v string) error {
	t, err := readField(v)
	if err != nil {
		return err
	}
	p.known(t.name, t.not)
	f := query.Filter{Not: t.not}
	named, ok := query.FieldNamed(t.name)
	opt := fieldOptions[t.name]
	switch {
	case ok && opt != "" && t.op == query.OpContains:
		return p.numberField(f, opt, t.text)
	case ok && opt == "" && t.op <= query.OpRegexp || opt != "" && t.op > query.OpRegexp:
		f.Term = &query.Term{Fields: []query.Field{named}, Op: t.op, Text: t.text}
		f.Field = &query.FieldTest{Name: t.name}
	default: // a regular expression about what an option reads: a term unless -i is given, see tested
		if t.name == "type" && t.op == query.OpContains {
			t.op = query.OpEqual
		}
		f.Field = &query.FieldTest{Name: t.name, Op: t.op, Text: t.text}
	}
	p.tests = append(p.tests, f)
	return nil
}

// numberField reads a value as the option for it does.
func (p *parser) numberField(f query.Filter, opt, text string) error {
	if text == "unset" && (opt == "--loginuid" || opt == "--session") {
		text = strconv.FormatUint(maxID, 10)
	}
	sub := &parser{env: p.env, args: []string{opt, text}, name: "--field", o: &Options{}, terms: map[string]query.Term{}}
	if strings.HasPrefix(text, "-") && opt != "--exit" && opt != "--session" && opt != "--loginuid" {
		return usagef("--field: %s is no value of it", text)
	}
	if err := sub.valued(opt); err != nil {
		return usagef("--field: %v", err)
	}
	if sub.hasMachine {
		sub.term("--arch", query.Term{Fields: []query.Field{query.FieldArch}, Text: query.Number(query.FieldArch, int64(sub.machine))})
	}
	if f.Not && len(sub.order) > 1 { // not this call of this architecture
		return usagef("--field: give the system call's number where it is not wanted")
	}
	p.o.Notes = append(p.o.Notes, sub.o.Notes...)
	for _, name := range sub.order {
		t := sub.terms[name]
		p.tests = append(p.tests, query.Filter{Not: f.Not, Term: &t, Field: &query.FieldTest{Name: fieldOf[name]}})
	}
	return nil
}

// tested adds what --field and --regex ask for, now that all options are known.
func (p *parser) tested() {
	q := &p.o.Query
	words := p.o.Format == output.FormatInterpret
	for _, f := range p.tests {
		switch {
		case f.Term != nil:
			f.Term.Op = p.textOp(f.Term.Op)
		case f.Field.Op == query.OpRegexp && !words && fieldOptions[f.Field.Name] != "":
			named, _ := query.FieldNamed(f.Field.Name)
			f.Term = &query.Term{Fields: withName(named), Op: f.Field.Op, Text: f.Field.Text}
			f.Field = &query.FieldTest{Name: f.Field.Name}
		default:
			f.Field.Words = words
			f.Field.Op = p.textOp(f.Field.Op)
		}
		q.Filters = append(q.Filters, f)
	}
}

// withName adds the names of users and groups to their numbers.
func withName(f query.Field) []query.Field {
	switch f {
	case query.FieldAUID, query.FieldUID, query.FieldEUID, query.FieldGID, query.FieldEGID:
		return []query.Field{f, f.Name()}
	}
	return []query.Field{f}
}

// textOp is how a text is compared: as a part of a value unless --word.
func (p *parser) textOp(op query.Op) query.Op {
	if op == query.OpContains && p.word {
		return query.OpEqual
	}
	return op
}

// finishOwn checks our options against each other, and narrows the query to the
// times of its expressions.
func (p *parser) finishOwn() error {
	o := p.o
	p.tested()
	q := &o.Query
	if err := o.quotedCSV(); err != nil {
		return err
	}
	if o.CSVSafe && o.Format != output.FormatCSV {
		o.Notes = append(o.Notes, "--csv-safe has no effect without --format csv")
	}
	if o.Milliseconds && o.Format != output.FormatLine && !o.asksNoFormat() {
		o.Notes = append(o.Notes, "--milliseconds has no effect without --format line")
	}
	for _, b := range p.bounds {
		q.StartMs = max(q.StartMs, b[0])
		if b[1] != 0 && (q.EndMs == 0 || b[1] < q.EndMs) {
			q.EndMs = b[1]
		}
	}
	if o.JustOne {
		o.Limit = 1
	}
	q.Reverse, q.Limit = o.Reverse, o.Limit
	o.LineBuffered = o.LineBuffered || o.Follow
	for _, clash := range []struct {
		both bool
		text string
	}{
		{o.Follow && o.Reverse, "--follow and --reverse"},
		{o.Follow && o.Count, "--follow and --count"},
		{o.Follow && o.Around > 0, "--follow and --around"},
		{o.Follow && o.Tree, "--follow and --tree"},
		{o.Tree && o.Around > 0, "--tree and --around"},
		{o.Tree && o.Count, "--tree and --count"},
		{o.Checkpoint != "" && o.ownWay(), "--checkpoint with --limit, --count, --reverse, --follow, --around or --tree"},
	} {
		if clash.both {
			return usagef("%s cannot be combined", clash.text)
		}
	}
	return q.Check()
}

// quotedCSV checks what --csv-rfc4180 goes with: it asks for csv itself, and in quotes a
// value needs no escapes unless they are asked for.
func (o *Options) quotedCSV() error {
	if !o.CSVQuoted {
		return nil
	}
	if o.Format != output.FormatDefault && o.Format != output.FormatCSV || slices.Contains(o.Seen, "--format") && o.Format == output.FormatDefault {
		return usagef("--csv-rfc4180 is for --format csv, not for %s", o.Format)
	}
	o.Format = output.FormatCSV
	if !slices.Contains(o.Seen, "--escape") {
		o.Escape = interpret.EscapeRaw
	}
	return nil
}

// ownWay says whether more is wanted than to write what is found, in order.
func (o *Options) ownWay() bool {
	return o.Limit > 0 && !o.JustOne || o.Count || o.Reverse || o.Follow || o.Around > 0 || o.Tree
}

// termOp makes a text option's term what --word and --regex ask for.
func (p *parser) termOp(opt string, t *query.Term) error {
	switch {
	case p.regexp && p.word:
		t.Op, t.Text = query.OpRegexp, fmt.Sprintf("^(?:%s)$", t.Text)
	case p.regexp:
		t.Op = query.OpRegexp
	case !p.word:
		t.Op = query.OpContains
	}
	if t.Op == query.OpRegexp {
		return checkRegexp(opt, t.Text)
	}
	return nil
}
