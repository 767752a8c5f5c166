package report

import (
	"sync"

	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/search"
)

// entry is an option and how it is read.
type entry struct {
	option.Option
	read func(p *parser, name string) error
}

// byOption finds an option by each of its names.
var byOption = sync.OnceValue(func() map[string]*entry {
	all := map[string]*entry{}
	for _, e := range entries() {
		for _, n := range e.Names {
			all[n] = &e
		}
	}
	return all
})

// OptionTable returns every option that ParseArgs accepts.
func OptionTable() (t option.Table) {
	for _, e := range entries() {
		t = append(t, e.Option)
	}
	return t
}

// entries is every option.
func entries() (all []entry) {
	for k := range reports {
		s := &reports[k]
		if len(s.names) > 0 {
			all = append(all, entry{
				option.Option{Names: s.names, Brief: s.title},
				func(p *parser, _ string) error { return p.report(Kind(k)) },
			})
		}
	}
	add := func(read func(p *parser, name string) error, brief, value string, words option.Words, names ...string) *option.Option {
		all = append(all, entry{option.Option{Names: names, Value: value, Brief: brief, Words: words}, read})
		return &all[len(all)-1].Option
	}
	flag := func(set func(*Options), brief string, names ...string) {
		add(func(p *parser, _ string) error { set(p.o); return nil }, brief, "", option.Words{}, names...)
	}
	flag(func(o *Options) { o.Summary = true }, "how often each value is in the report", "--summary")
	flag(func(o *Options) { o.Result = OnlyFailed }, "only what failed", "--failed")
	flag(func(o *Options) { o.Result = OnlySuccess }, "only what succeeded", "--success")
	flag(func(o *Options) { o.Change = Added }, "only what was added", "--add")
	flag(func(o *Options) { o.Change = Deleted }, "only what was deleted", "--delete")
	flag(func(o *Options) { o.NoConfig = true }, "no changes of audit's own configuration", "-nc", "--no-config")
	add((*parser).node, "events of this machine", "NAME", option.Words{}, "--node")
	for _, names := range [][2]string{{"-ts", "--start"}, {"-te", "--end"}} {
		brief := map[string]string{"--start": "not before", "--end": "not after"}[names[1]]
		o := add((*parser).shared, brief, "DATE", search.WordsOf("--end"), names[:]...) // checkpoint is ausearch's only
		o.More, o.Dash = 2, true
	}
	for _, own := range []option.Option{
		{Names: []string{"--by"}, Value: "FIELD", Brief: "count events by these fields", Words: option.Words{List: fieldWords, Comma: true}},
		{Names: []string{"--every"}, Value: "TIME", Brief: "count events by time", Words: option.These("15m", "1h", "1d", "1w")},
		{Names: []string{"--top"}, Value: "N", Brief: "the largest groups, or values of a summary, only"},
		{Names: []string{"--format"}, Value: "FORMAT", Brief: "how the report is written", Words: option.These(formatNames[:]...)},
	} {
		own.Equals = true
		all = append(all, entry{own, (*parser).own})
	}
	add((*parser).interpret, "names for numbers", "", option.Words{}, "-i", "--interpret")
	add((*parser).shared, "make control characters harmless", "MODE", search.WordsOf("--escape"), "--escape")
	add((*parser).shared, "only events with such a field", "CONDITION", search.WordsOf("--field"), "--field")
	add((*parser).shared, "only events of which this is true", "EXPRESSION", option.Words{}, "--expression")
	add((*parser).input, "read this instead of the log", "FILE|FOLDER", option.Files, "-if", "--input")
	flag(func(o *Options) { o.InputLogs = true }, "read the log even when stdin is a pipe", "--input-logs")
	add((*parser).shared, "how long an event may be incomplete", "SECONDS", option.Words{}, "--eoe-timeout")
	flag(func(o *Options) { o.Debug = true }, "say what was skipped", "--debug")
	flag(func(o *Options) { o.CSVSafe = true }, "csv without cells that a spreadsheet takes for formulas", "--csv-safe")
	flag(func(o *Options) { o.NoPager = true }, "do not page on a terminal", "--no-pager")
	flag(func(o *Options) { o.Help = true }, "show all options", "--help")
	flag(func(o *Options) { o.Version = true }, "show the version", "-v", "--version")
	return all
}

func fieldWords([]string, string) []string { return fieldNames() }

func (p *parser) interpret(name string) error {
	p.o.Interpret = true
	if _, ok := p.peek(1); ok {
		return usagef("Argument is NOT required for %s", name)
	}
	return nil
}

func (p *parser) input(string) error {
	v, err := p.value()
	switch {
	case err != nil:
	case len(v) >= maxPath:
		err = usagef("File name is too long %s", v)
	case v == "":
		err = usagef("stat: No such file or directory")
	}
	if err == nil && p.o.Input != "" && p.o.Input != v && !p.env.Stock {
		err = usagef("%s is given twice, as %s and as %s: only one is read; a folder is read with its rotated logs", p.args[p.pos-1], p.o.Input, v)
	}
	p.o.Input = v
	return err
}

func (p *parser) node(string) error {
	v, err := p.value()
	if err == nil {
		p.o.Nodes = append(p.o.Nodes, search.NodesOf(v)...)
	}
	return err
}
