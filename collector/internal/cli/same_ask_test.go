package cli

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/collector/internal/render"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/pkg/event/eventtest"
	"github.com/auditfleet/auditfleet/pkg/option"
	"github.com/auditfleet/auditfleet/pkg/output"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/report"
	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// question is a command line: the command, and its options with their values.
type question struct {
	command string
	parts   [][]string
	ordered bool // the answer depends on the order of events
	hosts   bool // it prints or selects hosts: a log without node= is asked with names
}

func (q question) words() []string {
	return slices.Concat([]string{q.command}, slices.Concat(q.parts...))
}

// kind is the question without its values.
func (q question) kind() string {
	words := []string{q.command}
	for _, p := range q.parts {
		words = append(words, p[0])
		if p[0] == "--format" {
			words = append(words, p[1])
		}
	}
	return strings.Join(words, " ")
}

// values are what a log's events can be searched by.
type values struct {
	r      *rand.Rand
	of     [query.NumFields][]string
	nodes  []string
	ids    []string
	secs   []int64
	fields []string // name=value, of records
}

func valuesOf(r *rand.Rand, l *sameLog) *values {
	v := &values{r: r}
	seen := map[string]bool{}
	once := func(list *[]string, kind, s string) {
		if key := kind + " " + s; !seen[key] && s != "" && !strings.ContainsRune(s, 0) {
			seen[key] = true
			*list = append(*list, s)
		}
	}
	var text strings.Builder
	for _, s := range l.sent {
		text.WriteString(s.line + "\n")
	}
	var x query.Extractor
	for _, ev := range eventtest.Parse([]byte(text.String())) {
		x.Extract(ev, func(f query.Field, b []byte) { once(&v.of[f], f.String(), string(b)) })
		once(&v.nodes, "node", string(ev.Node))
		once(&v.ids, "id", strconv.FormatUint(ev.Serial, 10))
		v.secs = append(v.secs, ev.Ms/1000)
		for i := range ev.Records {
			for _, w := range strings.Fields(string(ev.Records[i].Raw)) {
				if name, value, ok := strings.Cut(strings.Trim(w, "'"), "="); ok && value != "" && r.IntN(20) == 0 {
					once(&v.fields, "field", name+"="+strings.Trim(value, `"`))
				}
			}
		}
	}
	return v
}

func (v *values) one(list []string, other string) string {
	if len(list) == 0 || v.r.IntN(20) == 0 {
		return other
	}
	return list[v.r.IntN(len(list))]
}

// text is a value whole, or a part of it.
func (v *values) text(f query.Field) string {
	s := v.one(v.of[f], "nowhere")
	if v.r.IntN(3) == 0 && len(s) > 2 {
		from := v.r.IntN(len(s) - 1)
		s = s[from : from+1+v.r.IntN(len(s)-from)]
	}
	if strings.HasPrefix(s, "-") {
		return "x"
	}
	return s
}

func (v *values) date() []string {
	sec := v.secs[v.r.IntN(len(v.secs))] + int64(v.r.IntN(3)-1)
	return strings.Fields(time.Unix(sec, 0).Format("01/02/06 15:04:05"))
}

// byText and byNumber are the options whose values are those of a field.
var (
	byText = map[string]query.Field{
		"--comm": query.FieldComm, "--file": query.FieldFile, "--key": query.FieldKey, "--object": query.FieldObject, "--context": query.FieldSubject,
		"--subject": query.FieldSubject, "--uuid": query.FieldUUID, "--vm-name": query.FieldVM, "--host": query.FieldHost, "--terminal": query.FieldTerminal,
		"--executable": query.FieldExe,
	}
	byNumber = map[string]query.Field{
		"--exit": query.FieldExit, "--syscall": query.FieldSyscall, "--gid": query.FieldGID, "--gid-effective": query.FieldEGID, "--gid-all": query.FieldGID,
		"--pid": query.FieldPID, "--ppid": query.FieldPPID, "--uid": query.FieldUID, "--uid-effective": query.FieldEUID, "--uid-all": query.FieldAUID,
		"--loginuid": query.FieldAUID, "--session": query.FieldSession,
	}
)

// notAsked are options that answer no question about events, or only one of the two.
var notAsked = []string{"--help", "--version", "--follow", "--input", "--input-logs", "--color", "--no-pager", "--debug", "--checkpoint"}

// part is an option with a value of the log; nil when it is none to be asked.
func (v *values) part(t *testing.T, o *option.Option) []string {
	name := o.Names[len(o.Names)-1]
	spelling := o.Names[v.r.IntN(len(o.Names))]
	given := func(words ...string) []string { return append([]string{spelling}, words...) }
	if slices.Contains(notAsked, name) {
		return nil
	}
	if o.Value == "" {
		return given()
	}
	if f, ok := byText[name]; ok {
		return given(v.text(f))
	}
	if f, ok := byNumber[name]; ok {
		return given(v.one(v.of[f], "77"))
	}
	switch name {
	case "--event":
		return given(v.one(v.ids, "1"))
	case "--node":
		return given(v.one(v.nodes, "nowhere"))
	case "--message":
		n, _ := strconv.Atoi(v.one(v.of[query.FieldType], "1300"))
		if v.r.IntN(3) == 0 {
			return given(strconv.Itoa(n))
		}
		return given(tables.TypeName(uint16(n)))
	case "--start", "--end":
		return given(v.date()...)
	case "--around":
		return given([]string{"1s", "4s", "10"}[v.r.IntN(3)])
	case "--limit", "--top":
		return given(strconv.Itoa(1 + v.r.IntN(9)))
	case "--eoe-timeout":
		return given("2")
	case "--field":
		name, value, _ := strings.Cut(v.one(v.fields, "uid=0"), "=")
		return given(name + []string{"=", "!=", "~"}[v.r.IntN(3)] + strings.TrimLeft(value, "*+?\\([{"))
	case "--expression":
		return given([]string{
			`syscall i= "openat"`, `uid r= "0" && ! (success r= "no")`, `\record_type r= "SYSCALL" || exe r= "` + v.one(v.of[query.FieldExe], "/x") + `"`,
		}[v.r.IntN(3)])
	case "--regex":
		return given([]string{"^root$", "/etc/.*w", "[0-9]{4}"}[v.r.IntN(3)])
	case "--by":
		words := o.Words.List(nil, "")
		by := words[v.r.IntN(len(words))]
		if v.r.IntN(3) == 0 {
			by += "," + words[v.r.IntN(len(words))]
		}
		return given(by)
	}
	if o.Words.List == nil {
		t.Errorf("%s: say in values.part which values it has", name)
		return nil
	}
	words := o.Words.List(nil, "")
	if name == "--arch" {
		words = []string{"b64", "b32", "x86_64"}
	}
	return given(words[v.r.IntN(len(words))])
}

// formats are all ways of writing events: what --format takes, and the options that change
// one.
func formats() [][]string {
	all := [][]string{nil, {"-r"}, {"-i"}, {"--format", "json", "-i"}, {"--format", "csv", "--extra-keys", "--extra-labels", "--extra-obj2", "--extra-time"}}
	for _, f := range output.FormatNames() {
		all = append(all, []string{"--format", f})
	}
	return all
}

// finish says of a question what its answer depends on.
func (q question) finish(l *sameLog) question {
	for _, p := range q.parts {
		switch p[0] {
		case "--with-host":
			q.hosts = true
			q.parts = append(q.parts, []string{"-i"}) // without it, records are as they were sent
		case "--limit", "--just-one", "--reverse", "--around", "--tree", "--top":
			q.ordered = true
			q.hosts = q.hosts || p[0] == "--tree"
		case "-n", "--node", "--by":
			q.hosts = true
		case "-i", "--interpret", "--csv-rfc4180":
			q.hosts = true
		case "--format":
			q.hosts = q.hosts || p[1] != "raw" && p[1] != "default"
		}
	}
	q.hosts = q.hosts && l.unnamed != ""
	return q
}

// resultOptions change how events are written, not which.
var resultOptions = []string{"--format", "--raw", "--interpret", "--extra-keys", "--extra-labels", "--extra-obj2", "--extra-time", "--csv-safe", "--csv-rfc4180", "--milliseconds", "--count", "--tree", "--around",
	"--just-one", "--limit", "--reverse", "--with-host", "--line-buffered", "--escape"}

// questionsOf makes each option of search and report part of a question, and then puts
// them together at random.
func questionsOf(t *testing.T, r *rand.Rand, l *sameLog) (all []question) {
	v := valuesOf(r, l)
	add := func(command string, parts ...[]string) {
		parts = slices.DeleteFunc(parts, func(p []string) bool { return p == nil })
		all = append(all, question{command: command, parts: parts}.finish(l))
	}
	table := search.OptionTable()
	var conditions []*option.Option
	forms := formats()
	for i := range table {
		name := table[i].Names[len(table[i].Names)-1]
		if !slices.Contains(resultOptions, name) && table[i].Value != "" && !slices.Contains(notAsked, name) {
			conditions = append(conditions, &table[i])
		}
		part := v.part(t, &table[i])
		if part == nil {
			continue
		}
		for range need.Size(3, 1) {
			f := forms[r.IntN(len(forms))]
			if slices.Contains(resultOptions, name) {
				f = nil
			}
			add("search", part, f, v.part(t, conditions[r.IntN(len(conditions))]))
			part = v.part(t, &table[i])
		}
	}
	for _, f := range forms {
		add("search", []string{"-m", "ALL"}, f)
		add("search", v.part(t, conditions[r.IntN(len(conditions))]), v.part(t, conditions[r.IntN(len(conditions))]), f)
	}
	for range need.Size(40, 5) {
		way := [][]string{nil, nil, {"--tree"}, {"--around", "4s"}, {"--reverse"}, {"--limit", "3"}, {"--just-one"}, {"--count"}, {"-w"}}[r.IntN(9)]
		add("search", v.part(t, conditions[r.IntN(len(conditions))]), v.part(t, conditions[r.IntN(len(conditions))]), forms[r.IntN(len(forms))], way)
	}
	return append(all, reportsOf(t, v, l)...)
}

// reportsOf are the questions of report.
func reportsOf(t *testing.T, v *values, l *sameLog) (all []question) {
	table := report.OptionTable()
	var kinds [][]string
	var more []*option.Option
	for i := range table {
		o := &table[i]
		name := o.Names[len(o.Names)-1]
		if slices.Contains(notAsked, name) {
			continue
		}
		if o.Value == "" {
			if p, err := report.ParseArgs([]string{o.Names[0]}, search.Env{}); err == nil && p.Kind != report.Overview {
				if p.Kind != report.LogTimes { // a file has its own, a store its hosts'
					kinds = append(kinds, []string{o.Names[0]})
				}
				continue
			}
		}
		if l.unnamed != "" && name == "--node" {
			continue
		}
		if name != "--every" && name != "--top" && name != "--format" && name != "--by" && name != "--csv-safe" {
			more = append(more, o)
		}
	}
	kinds = append(kinds, nil)
	add := func(parts ...[]string) {
		parts = slices.DeleteFunc(parts, func(p []string) bool { return p == nil })
		q := question{command: "report", parts: parts}.finish(l)
		if p, err := render.ParseReport(q.words()[1:], false); err == nil && p.Kind == report.Overview && p.Group == nil && (len(p.Nodes) > 0 || !l.inOrder) {
			return // a file's range of time is that of all its hosts and begins at its first record, as the stock tool has it
		}
		all = append(all, q)
	}
	for _, k := range kinds {
		add(k)
		add(k, []string{"--summary"})
		for range need.Size(4, 1) {
			add(k, v.part(t, more[v.r.IntN(len(more))]), v.part(t, more[v.r.IntN(len(more))]))
		}
	}
	by := table.Find("--by")
	for range need.Size(30, 6) {
		add(v.part(t, by), v.part(t, table.Find("--format")), [][]string{nil, {"--every", "1h"}, {"--top", "3"}, {"-i"}}[v.r.IntN(4)], v.part(t, more[v.r.IntN(len(more))]))
	}
	return all
}

// unlike is a difference between file and store that is to be put right.
type unlike struct {
	name    string
	applies func(q question, l *sameLog) bool
}

// unlikes must become empty.
var unlikes = []unlike{}

// knownUnlike names the fault that explains a difference; "" when none does.
func knownUnlike(q question, l *sameLog) string {
	for _, u := range unlikes {
		if u.applies(q, l) {
			return u.name
		}
	}
	return ""
}
