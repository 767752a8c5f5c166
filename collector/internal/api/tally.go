package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// fromTallyRequest reads and checks a request to count: its query and fields.
func fromTallyRequest(req *fleet.TallyRequest) (*query.Query, []query.Field, error) {
	q, err := fromConditions(req.GetConditions())
	if err != nil {
		return nil, nil, err
	}
	q.Limit, q.Names = req.GetLimit(), req.GetNames()
	if len(req.GetFields()) > 0 && (!q.Countable() || q.Limit > 0) {
		return nil, nil, fmt.Errorf("%w: the values of fields, of more than times, hosts and senders", ErrQuery)
	}
	var fields []query.Field
	for _, f := range req.GetFields() {
		if f >= uint32(query.NumIndexed) || len(fields) >= query.NumIndexed {
			return nil, nil, fmt.Errorf("%w: a tally of field %d", ErrQuery, f)
		}
		fields = append(fields, query.Field(f))
	}
	if slices.Contains(fields, query.FieldEach) {
		for _, f := range fields {
			if int(f) >= query.NumFields && (f < query.FieldNode || f > query.FieldUnnamed) && f != query.FieldEach {
				return nil, nil, fmt.Errorf("%w: combinations with field %d", ErrQuery, f)
			}
		}
	}
	return q, fields, nil
}

// counted is the words for a tally of fields.
func counted(fields []query.Field) []string {
	if len(fields) == 0 {
		return nil
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.String()
	}
	return []string{"--by", strings.Join(names, ",")}
}

// tallyBytes is about the most bytes of a tally in one response.
const tallyBytes = 1 << 20

// toTally sends a tally as responses: first the number of events and their times, then the
// values of each of fields, in pieces.
func toTally(sum *query.Tally, fields []query.Field, send func(*fleet.TallyResponse) error) (err error) {
	r := &fleet.TallyResponse{Events: sum.Events}
	if sum.Any && len(fields) > 0 {
		r.FirstMs, r.LastMs = &sum.FirstMs, &sum.LastMs
	}
	if err := send(r); err != nil {
		return err
	}
	for _, f := range fields {
		var t *fleet.Tally
		flush := func() {
			if t != nil && err == nil {
				err = send(&fleet.TallyResponse{Tally: []*fleet.Tally{t}})
			}
			t = nil
		}
		sum.Of(f).Each(func(v string, n int64) {
			if t == nil {
				t = &fleet.Tally{Field: uint32(f)}
			}
			t.Values = append(t.Values, v...)
			t.ValueBytes = append(t.ValueBytes, uint32(len(v)))
			t.Events = append(t.Events, n)
			if len(t.Values)+8*len(t.Events) >= tallyBytes {
				flush()
			}
		})
		if flush(); err != nil {
			return err
		}
	}
	return nil
}

// errNoCombinations is returned for a collector that is older than query.FieldEach: it counts the values of the other fields instead.
var errNoCombinations = fmt.Errorf("%w: it is older than this program, and counts no combinations of values", ErrQuery)

// combined reports whether sum has all combinations that were asked for, if any were: an event has one at least.
func combined(sum *query.Tally) bool {
	if !sum.Combines() {
		return true
	}
	events := int64(0)
	sum.Of(query.FieldEach).Each(func(_ string, n int64) { events += n })
	return events >= sum.Events
}

// addTally adds what a response has of a tally to sum.
func addTally(sum *query.Tally, r *fleet.TallyResponse) error {
	sum.Events += r.GetEvents()
	if r.FirstMs != nil && r.LastMs != nil {
		sum.Time(r.GetFirstMs(), r.GetLastMs())
	}
	for _, t := range r.GetTally() {
		if t.GetField() >= uint32(query.NumIndexed) || len(t.GetValueBytes()) != len(t.GetEvents()) {
			return errResponse
		}
		vs := sum.Of(query.Field(t.GetField()))
		if vs == nil && sum.Combines() {
			return errNoCombinations
		}
		if vs == nil {
			return errResponse
		}
		rest := string(t.GetValues()) // one piece of memory for all
		for i, n := range t.GetValueBytes() {
			if uint64(n) > uint64(len(rest)) {
				return fmt.Errorf("%w: a value of %d bytes in %d", errResponse, n, len(rest))
			}
			vs.Append(rest[:n], t.GetEvents()[i]) // a collector gives each value once
			rest = rest[n:]
		}
	}
	return nil
}
