package report

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
)

// Tally counts, for each value of some fields, the events that have it, without reading
// these events. It passes the events that it cannot count this way to rest, in no order.
// After an error the counts and the events passed are incomplete: the caller must discard
// both.
type Tally func(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error)

// counter makes a report's counts of those of a field: convert returns the value
// as the report has it, and false for what the report leaves out.
type counter struct {
	field   query.Field
	sign    int64
	convert func(v string) (string, bool)
}

// counters are those of the summaries that count values. The fields' values are
// those of the reports but for what convert changes: events in which they are not
// are odd (query.FieldOdd).
var counters = map[Kind][]counter{
	Exe:      {{query.FieldExe, 1, toNUL}},
	Comm:     {{query.FieldComm, 1, toNUL}},
	Host:     {{query.FieldHost, 1, asIs}},
	Terminal: {{query.FieldTerminal, 1, asIs}},
	PID:      {{query.FieldPID, 1, pidValue}},
	User:     {{query.FieldAUID, 1, auidValue}},
	Syscall:  {{query.FieldSyscall, 1, callValue}},
	Key:      {{query.FieldKey, 1, keyValue}, {query.FieldKeyAgain, 1, keyValue}},
	File:     {{query.FieldFile, 1, asIs}, {query.FieldCWD, -1, asIs}, {query.FieldFileAgain, 1, asIs}},
}

func asIs(v string) (string, bool) { return v, true }

func toNUL(v string) (string, bool) {
	if i := bytes.IndexByte([]byte(v), 0); i >= 0 {
		v = v[:i]
	}
	return v, true
}

func keyValue(v string) (string, bool) { return v, isKey(v) }

func pidValue(v string) (string, bool) {
	n, err := strconv.ParseInt(v, 10, 64)
	return strconv.FormatInt(int64(int32(n)), 10), err == nil && int32(n) != noID
}

func auidValue(v string) (string, bool) {
	n, err := strconv.ParseInt(v, 10, 64)
	return strconv.FormatInt(userID(uint32(n)), 10), err == nil
}

func callValue(v string) (string, bool) {
	n, err := strconv.ParseInt(v, 10, 64)
	return strconv.FormatInt(int64(int32(n)), 10), err == nil && int32(n) >= 0
}

// overviewCounters are the lines of the overview that count different values.
var overviewCounters = map[int]Kind{
	ovTerminals: Terminal, ovHosts: Host, ovExes: Exe, ovComms: Comm, ovFiles: File, ovKeys: Key, ovUsers: User, ovPIDs: PID,
}

// ways returns the fields from which the report can be counted, and those by which it can be where the first do not tell enough; none when it
// has to read the events.
func (o *Options) ways() [][]query.Field {
	if o.Group == nil {
		return some(o.tallied())
	}
	ways := some(o.groupFields())
	if o.namesLogins() && len(ways) > 0 { // what was stored before has no logins: there the events in which a host names users are read
		ways = append([][]query.Field{{query.FieldAUID, query.FieldAUIDName, query.FieldLogin}}, ways...)
	}
	return ways
}

func some(fields []query.Field) [][]query.Field {
	if len(fields) == 0 {
		return nil
	}
	return [][]query.Field{fields}
}

// tallied are the fields of a report without groups.
func (o *Options) tallied() (fields []query.Field) {
	if !o.Summary || !o.ByValue || len(o.Terms)+len(o.Filters) > 0 {
		return nil
	}
	narrowed := o.Result != AnyResult || o.NoConfig || o.Change != AnyChange
	add := func(k Kind) {
		for _, c := range counters[k] {
			fields = append(fields, c.field)
		}
	}
	switch {
	case o.Kind == Overview && !narrowed:
		for _, k := range overviewCounters {
			add(k)
		}
		return append(fields, query.FieldShape)
	case reports[o.Kind].style == typeNames && reports[o.Kind].when == nil:
		return []query.Field{query.FieldShape}
	case narrowed:
		return nil
	case o.Interpret && o.Kind == Syscall:
		fields = append(fields, query.FieldCall)
	case o.Interpret && o.Kind == User:
		fields = append(fields, query.FieldLogin)
	}
	add(o.Kind)
	return fields
}

// Source is where a report's events come from. Texts may be nil; else it gives the same events as Scan does.
type Source struct {
	Tally Tally
	Scan  Scan
	Texts query.TextSource
}

// errUntold is returned for counts that do not tell what the report has.
var errUntold = errors.New("counts that do not suffice")

// RunTally writes the report that o asks for, and lets src.Tally count events without reading
// them where that is possible. Otherwise it reads the events.
func RunTally(ctx context.Context, o *Options, loc *time.Location, src Source, out io.Writer) (int, error) {
	for _, fields := range o.ways() {
		if code, err := runTally(ctx, o, loc, src, fields, out); !errors.Is(err, errUntold) {
			return code, err
		}
	}
	return run(ctx, o, loc, src, out)
}

// runTally counts by these fields, and writes nothing where it returns errUntold.
func runTally(ctx context.Context, o *Options, loc *time.Location, src Source, fields []query.Field, out io.Writer) (int, error) {
	w := newWriter(out, o, loc)
	p := w.printer()
	var rest times // by least and greatest: they come in no order
	q := o.Query()
	q.Types, q.Memory = nil, o.Memory
	sum, err := src.Tally(ctx, q, fields, func(ev *event.Event) error {
		rest.spread(ev.Ms)
		return p.Event(ev)
	})
	if err != nil { // scan knows what can be said of a damaged store
		if cause := context.Cause(ctx); cause != nil {
			return 1, cause
		}
		if o.Memory != nil && errors.Is(err, query.ErrMemory) {
			return 1, err
		}
		return 1, errUntold
	}
	if !p.take(sum) {
		return 1, errUntold
	}
	if err := w.title(); err != nil {
		return 1, errors.Join(err, w.out.Flush())
	}
	if sum.Any {
		rest.spread(sum.FirstMs)
		rest.spread(sum.LastMs)
	}
	w.times = rest
	p.any = p.any || sum.Events > 0
	if p.tally != nil { // there is no other to add it to
		w.order, p.tally = p.tally, newTally(nil)
	}
	return w.finish()
}

// spread widens times that come in no order.
func (t *times) spread(ms int64) {
	if !t.any {
		t.first, t.last, t.any = ms, ms, true
	}
	t.first, t.last = min(t.first, ms), max(t.last, ms)
}

// take adds what was counted without reading. It fails when the counts do not suffice.
func (p *printer) take(sum *query.Tally) bool {
	if p.group != nil {
		return p.group.take(sum)
	}
	switch {
	case p.o.Interpret && p.o.Kind == User:
		return p.takeLogins(sum)
	case p.o.Interpret && p.o.Kind == Syscall:
		return p.takeCalls(sum)
	}
	sum.Of(query.FieldShape).Each(func(v string, n int64) {
		if shape, ok := query.ParseShape([]byte(v)); ok {
			p.shape(&shape, uint64(n))
		}
	})
	if p.over == nil {
		countValues(sum, p.o.Kind, p.tally.addN)
		return true
	}
	for line, kind := range overviewCounters {
		countValues(sum, kind, func(v string, _ uint64) { p.over.seeValue(line, v) })
	}
	return true
}

// takeCalls counts system calls by name. It fails where an older collector, or part of a store, does not say which ones all of them are.
func (p *printer) takeCalls(sum *query.Tally) bool {
	if !allSay(sum, Syscall, query.FieldCall) {
		return false
	}
	sum.Of(query.FieldCall).Each(func(v string, n int64) {
		call, ok := query.ParseCall([]byte(v))
		var known bool
		if p.scratch, known = appendCallName(p.scratch[:0], &call); !known {
			p.scratch = append(p.scratch[:0], question...)
		}
		if ok {
			p.tally.addN(string(p.scratch), uint64(n))
		}
	})
	return true
}

// allSay reports whether each event with a value that the kind's report counts has one of a field, too, which says more of it.
func allSay(sum *query.Tally, kind Kind, more query.Field) bool {
	n := int64(0)
	countValues(sum, kind, func(_ string, events uint64) { n += int64(events) })
	return n == valued(sum, more)
}

// takeLogins counts login users by name. It fails where an older collector, or part of a store, does not say whom all of them are called.
func (p *printer) takeLogins(sum *query.Tally) bool {
	if !allSay(sum, User, query.FieldLogin) {
		return false
	}
	sum.Of(query.FieldLogin).Each(func(v string, n int64) {
		if l, ok := query.ParseLogin([]byte(v)); ok {
			p.scratch = p.appendLogin(p.scratch[:0], userID(l.ID), l.Named, l.Told)
			p.tally.addN(string(p.scratch), uint64(n))
		}
	})
	return true
}

// countValues gives add each value that a report's summary counts, and how often.
func countValues(sum *query.Tally, kind Kind, add func(v string, n uint64)) {
	all := counters[kind]
	switch len(all) {
	case 0: // by shape alone
		return
	case 1:
		sum.Of(all[0].field).Each(func(v string, n int64) {
			if v, ok := all[0].convert(v); ok {
				add(v, uint64(n))
			}
		})
		return
	}
	// Few values have more than the first field to say of them.
	more := map[string]int64{}
	for _, c := range all[1:] {
		sum.Of(c.field).Each(func(v string, n int64) {
			if v, ok := c.convert(v); ok {
				more[v] += c.sign * n
			}
		})
	}
	sum.Of(all[0].field).Each(func(v string, n int64) {
		v, ok := all[0].convert(v)
		if n += more[v]; ok && n != 0 {
			add(v, uint64(n))
		}
	})
}

// shape counts n events of a shape.
func (p *printer) shape(s *query.Shape, n uint64) {
	if len(s.Types) == 0 || !p.o.mayInclude(s.Types[0]) || len(p.types) > 0 && !anyOf(s.Types, p.types) {
		return
	}
	result := unknown
	switch {
	case s.Known && s.Success:
		result = succeeded
	case s.Known:
		result = failed
	}
	switch {
	case p.o.Result == OnlyFailed && result != failed, p.o.Result == OnlySuccess && result != succeeded:
	case p.over != nil:
		p.over.kind(s.Types, result, s.Call, n)
	case reports[p.o.Kind].style == typeNames && s.Types[0] != 0:
		p.tally.addN(strconv.Itoa(int(s.Types[0])), n)
	}
}

func anyOf(types []uint16, spans []span) bool {
	for _, t := range types {
		for _, s := range spans {
			if t >= s.low && t <= s.high {
				return true
			}
		}
	}
	return false
}
