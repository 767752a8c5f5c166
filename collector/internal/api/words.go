package api

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// maxWords bounds the text that is made of a request, which may have a megabyte, before it is
// encoded for a record. Who writes the record bounds it further.
const maxWords = 8 << 10

// text is words of a command line, as a shell would have them, up to maxWords bytes of them.
type text struct {
	b   strings.Builder
	all int // bytes that there would be without the bound
}

// word adds a word, in quotes where a shell would take it for something else.
func (t *text) word(s string) {
	if t.all > 0 {
		t.plain(" ")
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		t.plain(s)
		return
	}
	t.plain("'")
	if len(s) > maxWords {
		t.all += len(s) - maxWords
		s = s[:maxWords]
	}
	t.plain(strings.ReplaceAll(s, "'", `'\''`))
	t.plain("'")
}

func (t *text) plain(s string) {
	t.all += len(s)
	t.b.WriteString(s[:min(len(s), max(0, maxWords-t.b.Len()))])
}

// words adds an option with its value.
func (t *text) words(opt string, value ...string) {
	t.word(opt)
	for _, v := range value {
		t.word(v)
	}
}

// special says whether a shell does more with a character than to take it as it is.
func special(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("_./-+@:,=%^", r)
}

// stamp is a time of a query as records have it: in UTC, "?" for none.
func stamp(ms int64) string {
	if ms == 0 {
		return "?"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// conditions adds what a query asks for, in the words of search where it has them: what comes
// by its own name there is NAME=VALUE, NAME~REGEXP, NAME>NUMBER as with --field.
func (t *text) conditions(q *query.Query) {
	if len(q.Nodes) > 0 {
		t.words("-n", strings.Join(hostsOf(q.Nodes), ","))
	}
	if q.StartMs != 0 {
		t.words("-ts", stamp(q.StartMs))
	}
	if q.EndMs != 0 {
		t.words("-te", stamp(q.EndMs))
	}
	if q.HasSerial {
		t.words("-a", strconv.FormatUint(q.Serial, 10))
	}
	if len(q.Types) > 0 {
		t.words("-m", typeNames(q.Types))
	}
	for i := range q.Terms {
		t.word(termText(&q.Terms[i]))
	}
	for i := range q.Filters {
		t.filter(&q.Filters[i])
	}
	if len(q.From) > 0 {
		list := make([]string, len(q.From))
		for i, p := range q.From {
			list[i] = p.String()
		}
		t.words("--from", strings.Join(list, ","))
	}
	for _, flag := range []struct {
		given bool
		word  string
	}{{q.Mismatch, "--mismatch"}, {q.Unparsable, "--debug"}, {q.Reverse, "--reverse"}, {q.Own, "--own"}} {
		if flag.given {
			t.word(flag.word)
		}
	}
	if q.AfterBatch > 0 {
		t.words("--after-batch", strconv.FormatUint(q.AfterBatch, 10))
	}
	if q.After != nil {
		t.words("--after", fmt.Sprintf("%s:%d", stamp(q.After.Ms), q.After.Serial))
	}
	if q.Limit > 0 {
		t.words("--limit", strconv.FormatUint(q.Limit, 10))
	}
}

// hostsOf returns the hosts of a query without the words with commas that stand beside what is
// between their commas.
func hostsOf(nodes []string) (hosts []string) {
	for _, n := range nodes {
		several := strings.Contains(n, ",")
		for one := range strings.SplitSeq(n, ",") {
			several = several && slices.Contains(nodes, one)
		}
		if !several {
			hosts = append(hosts, n)
		}
	}
	return hosts
}

// filter adds a condition, with ! before one that must not hold.
func (t *text) filter(f *query.Filter) {
	not := ""
	if f.Not {
		not = "!"
	}
	switch {
	case f.Expression != "":
		t.words("--expression", not+f.Expression)
	case f.Term != nil:
		t.words("--field", not+termText(f.Term))
	case f.Field != nil:
		t.words("--field", not+f.Field.Name+opText(f.Field.Op)+f.Field.Text)
	}
}

// termText is a condition on fields: "auid|uid=0".
func termText(t *query.Term) string {
	var names []string
	for _, f := range t.Fields {
		if name := strings.TrimSuffix(f.String(), "-name"); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|") + opText(t.Op) + t.Text
}

// opText is how a comparison is written.
func opText(op query.Op) string {
	switch op {
	case query.OpContains:
		return "*="
	case query.OpRegexp:
		return "~"
	case query.OpLess:
		return "<"
	case query.OpLessEqual:
		return "<="
	case query.OpGreater:
		return ">"
	case query.OpGreaterEqual:
		return ">="
	}
	return "="
}

// typeNames are record types by name, the first ones of many.
func typeNames(types []uint32) string {
	const most = 64
	names := make([]string, 0, min(len(types), most)+1)
	for _, n := range types[:min(len(types), most)] {
		name := ""
		if n <= 0xffff {
			name = tables.TypeName(uint16(n))
		}
		names = append(names, cmp.Or(name, strconv.FormatUint(uint64(n), 10)))
	}
	if n := len(types) - most; n > 0 {
		names = append(names, fmt.Sprintf("and-%d-more", n))
	}
	return strings.Join(names, ",")
}
