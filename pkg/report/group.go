package report

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/tables"
)

// Group holds the options --by and --every: the report counts events by the values of
// some fields and by intervals of time.
type Group struct {
	By    []By
	Every time.Duration // length of an interval; 0 does not divide the time
}

// By names one field to group by.
type By struct {
	Name  string
	Field query.Field
	Node  bool // group by the event's host instead of a field
}

// nodeField is the name of the machine among the fields.
const nodeField = "node"

// fieldNames lists what --by takes.
func fieldNames() []string {
	names := []string{nodeField}
	for f := range query.Field(query.NumFields) {
		names = append(names, f.String())
	}
	return names
}

func byName(name string) (By, bool) {
	if name == nodeField {
		return By{Name: name, Node: true}, true
	}
	for f := range query.Field(query.NumFields) {
		if f.String() == name {
			return By{Name: name, Field: f}, true
		}
	}
	return By{}, false
}

// separator is between the values of a group, each as query.AppendEach has it, and before them its time.
const separator = query.EachSeparator

// grouper counts the events of each group. It belongs to one worker and is not locked:
// the caller merges the workers' groupers after the scan has ended.
type grouper struct {
	o       *Options
	loc     *time.Location
	x       query.Extractor
	values  [][][]byte // of the present event, by field of By
	text    []byte
	scratch []byte
	key     []byte
	tally   *tally
	need    query.FieldSet         // the fields of By, and with -i of names
	facts   bool                   // what the reports read of an event is asked for, too
	indexes [query.NumFields][]int // places in By
	named   [query.NumFields][]int // those of which a field is the name, with -i
	names   [][][]byte             // of the present event, by field of By
}

func newGrouper(o *Options, loc *time.Location) *grouper {
	g := &grouper{o: o, loc: loc, values: make([][][]byte, len(o.Group.By)), names: make([][][]byte, len(o.Group.By)), tally: newTally(o.Memory)}
	g.facts = o.Result != AnyResult
	for i, by := range o.Group.By {
		if by.Node {
			continue
		}
		g.need |= 1 << by.Field
		g.indexes[by.Field] = append(g.indexes[by.Field], i)
		if name, ok := nameField[by.Field]; ok && o.Interpret {
			g.need |= 1 << name
			g.named[name] = append(g.named[name], i)
		}
		g.facts = g.facts || by.Field == query.FieldSyscall && o.Interpret
	}
	return g
}

// add counts the event of f once in each of the groups it is in: one with several files
// is in the group of each.
func (g *grouper) add(f *facts) {
	ev := f.ev
	for i := range g.values {
		g.values[i], g.names[i] = g.values[i][:0], g.names[i][:0]
	}
	g.text = g.text[:0]
	g.x.ExtractOnly(ev, g.need, g.keep)
	for i, by := range g.o.Group.By {
		if by.Node && ev.Node != nil {
			g.values[i] = g.once(g.values[i], "", ev.Node)
		}
		if by.Field == query.FieldSyscall && !by.Node && g.o.Interpret && f.hasCall && len(g.values[i]) > 0 {
			g.scratch, _ = f.appendCallName(g.scratch[:0]) // its number is another call elsewhere
			if !bytes.HasPrefix(g.scratch, unknownCall) {  // else its number, as without a tail
				g.names[i] = g.once(g.names[i], isName, g.scratch)
			}
		}
		if len(g.names[i]) > 0 { // what its host calls them, not this machine
			g.values[i], g.names[i] = g.names[i], g.values[i]
		}
	}
	g.key = g.key[:0]
	if every := g.o.Group.Every; every != 0 {
		g.key = strconv.AppendInt(g.key, bucket(ev.Ms/1000, int64(every/time.Second), g.loc), 10)
	}
	g.count(0)
}

// keep keeps a value of a field that is grouped by.
func (g *grouper) keep(f query.Field, v []byte) {
	for _, i := range g.indexes[f] {
		g.values[i] = g.once(g.values[i], "", v)
	}
	for _, i := range g.named[f] {
		g.names[i] = g.once(g.names[i], isName, v)
	}
}

// once appends a value, as keys have it, that is not there yet.
func (g *grouper) once(list [][]byte, mark string, v []byte) [][]byte {
	start := len(g.text)
	g.text = query.AppendEach(append(g.text, mark...), v)
	v = g.text[start:len(g.text):len(g.text)]
	if slices.ContainsFunc(list, func(have []byte) bool { return bytes.Equal(have, v) }) {
		g.text = g.text[:start]
		return list
	}
	return append(list, v)
}

// isName marks a value that is already a name, taken from the enriched record of the host
// that logged it. Such a value is printed as it is and not looked up on this machine.
const isName = "\x02"

// nameField is where an enriched record has the name of a user or group.
var nameField = map[query.Field]query.Field{
	query.FieldAUID: query.FieldAUIDName, query.FieldUID: query.FieldUIDName, query.FieldEUID: query.FieldEUIDName,
	query.FieldGID: query.FieldGIDName, query.FieldEGID: query.FieldEGIDName,
}

// count goes through the values of the fields from the i-th on.
func (g *grouper) count(i int) {
	if i == len(g.values) {
		g.tally.add(g.key)
		return
	}
	key := g.key
	values := g.values[i]
	if len(values) == 0 {
		g.key = append(append(key, separator...), absentValue...)
		g.count(i + 1)
	}
	for _, v := range values {
		g.key = append(append(key, separator...), v...)
		g.count(i + 1)
	}
	g.key = key
}

// absentValue stands for a field that the event does not have. An empty value is another
// group.
const absentValue = query.EachAbsent

// group is one line of the result: the values that its events share, and their count.
type group struct {
	at     int64 // its time
	values []string
	absent []bool
	n      uint64
}

// shown is the same for groups whose values are.
func (g *group) shown() string {
	var b []byte
	for i, v := range g.values {
		b = append(b, separator...)
		if g.absent[i] {
			b = append(b, absentValue...)
		}
		b = query.AppendEach(b, v)
	}
	return string(b)
}

// groupsOf reads the groups from a tally, the largest first. Values that are shown alike
// are one group: with -i, root as a host wrote it into its records and root as this machine
// calls user 0.
func (w *writer) groupsOf(t *tally) []group {
	g := w.o.Group
	all := make([]group, 0, len(t.order))
	places := make(map[string]int, len(t.order))
	for _, c := range t.sorted(strings.Compare) {
		head, rest, _ := strings.Cut(c.Value, separator)
		out := group{n: c.N}
		out.at, _ = strconv.ParseInt(head, 10, 64)
		if len(g.By) > 0 {
			out.values = strings.SplitN(rest, separator, len(g.By))
		}
		out.absent = make([]bool, len(out.values))
		for i := range out.values {
			out.absent[i] = out.values[i] == absentValue
			out.values[i] = w.groupValue(g.By[i], out.values[i])
		}
		shown := head + out.shown()
		if at, ok := places[shown]; ok {
			all[at].n += out.n
			continue
		}
		places[shown] = len(all)
		all = append(all, out)
	}
	slices.SortStableFunc(all, func(a, b group) int { return cmp.Compare(b.n, a.n) })
	return all
}

// groupValue is a value of a key as it is shown: types by their names, and with -i what has one by
// its name.
func (w *writer) groupValue(by By, text string) string {
	if text == absentValue {
		return ""
	}
	name, named := strings.CutPrefix(text, isName)
	v := query.EachValue(name)
	if by.Node {
		return v
	}
	if named {
		if id, ok := unknownID(v); ok {
			return id // one row with that of records without names
		}
		return v
	}
	if by.Field == query.FieldType {
		if n, err := strconv.ParseUint(v, 10, 16); err == nil {
			return tables.TypeName(uint16(n))
		}
	}
	if w.o.Interpret {
		if name := w.valueName(by.Field, v); name != "" {
			return name
		}
	}
	return v
}

// valueName is the name that this machine knows for a value of a field, "" for none.
func (w *writer) valueName(f query.Field, v string) (name string) {
	if f == query.FieldExit {
		if n, err := strconv.Atoi(v); err == nil && n < 0 {
			name, _ = tables.ErrnoName(-n)
		}
		return name
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return ""
	}
	switch f {
	case query.FieldAUID, query.FieldUID, query.FieldEUID: // what names its host had is not known
		if n == query.UnsetID {
			return unset
		}
		name, _ = w.o.Names.User(uint32(n))
	case query.FieldGID, query.FieldEGID:
		if n == query.UnsetID {
			return unset
		}
		name, _ = w.o.Names.Group(uint32(n))
	case query.FieldSession:
		if n == query.UnsetID {
			return unset
		}
	}
	return name
}

// groups writes the result of --by and --every.
func (w *writer) groups() {
	sum := newTally(nil)
	for _, p := range w.all {
		sum.merge(p.group.tally)
	}
	all := topGroups(w.groupsOf(sum), w.o.Top)
	if w.o.Group.Every != 0 {
		if len(w.o.Group.By) == 0 && w.o.Top != 0 {
			all = all[:min(len(all), w.o.Top)] // the times with most events
		}
		slices.SortStableFunc(all, func(a, b group) int { return cmp.Compare(a.at, b.at) })
		if len(w.o.Group.By) == 0 && w.o.Top == 0 {
			all = withEmpty(all, w.o.Group.Every, w.loc)
		}
	}
	if w.o.Format == FormatCSV || w.o.Format == FormatJSON {
		w.groupRows(all)
		return
	}
	w.groupsTable(all)
}

// topGroups keeps the largest groups, by what they have at all times together.
func topGroups(all []group, top int) []group {
	if top == 0 {
		return all
	}
	totals := newTally(nil)
	for _, g := range all {
		totals.addN(g.shown(), g.n)
	}
	kept := map[string]bool{}
	for i, c := range totals.sorted(strings.Compare) {
		if i == top {
			break
		}
		kept[c.Value] = true
	}
	return slices.DeleteFunc(all, func(g group) bool { return !kept[g.shown()] })
}
