// Package api is both ends of the collector's query interface: the gRPC service, which answers
// from a source of events, and the client, by which the command line asks it. It converts a
// query.Query and its answer to and from the messages of proto/fleet. The collector's server,
// command line and web pages may import it.
package api

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// ErrQuery is returned for a query that this collector does not understand: another version
// of the program made it, or it is malformed.
var ErrQuery = errors.New("the collector does not understand the query")

// maxConditions bounds the conditions of one query, since each may be tested on each event.
const maxConditions = 4096

// version is the version of the protocol; see fleet.proto.
const version = fleet.QueryVersion

// checkVersion returns ErrQuery for a request of another version.
func checkVersion(v uint32) error {
	switch {
	case v < version:
		return fmt.Errorf("%w: it is of version %d, and the collector takes %d: the program that asks is older than the collector that runs", ErrQuery, v, version)
	case v > version:
		return fmt.Errorf("%w: it is of version %d, and the collector takes %d: the collector that runs is older than the program that asks, restart it", ErrQuery, v, version)
	}
	return nil
}

// toRequest returns a search as a message.
func toRequest(q *query.Query) *fleet.SearchRequest {
	req := &fleet.SearchRequest{Version: version, Conditions: toConditions(q), Limit: q.Limit, Reverse: q.Reverse, Origin: q.Origin, Batches: q.Batches}
	if at := q.After; at != nil {
		req.After = &fleet.Cursor{Ms: at.Ms, Node: []byte(at.Node), Serial: at.Serial, Batch: at.Batch, Tie: at.Tie}
	}
	return req
}

// fromRequest is the reverse of toRequest. It trusts nothing: anybody may have sent req.
func fromRequest(req *fleet.SearchRequest) (*query.Query, error) {
	q, err := fromConditions(req.GetConditions())
	if err != nil {
		return nil, err
	}
	q.Limit, q.Reverse, q.Origin, q.Batches = req.GetLimit(), req.GetReverse(), req.GetOrigin(), req.GetBatches()
	if at := req.GetAfter(); at != nil {
		q.After = &query.Cursor{Key: query.Key{Ms: at.GetMs(), Node: string(at.GetNode()), Serial: at.GetSerial()}, Batch: at.GetBatch(), Tie: at.GetTie()}
	}
	return q, nil
}

// toConditions returns the conditions of a query as a message.
func toConditions(q *query.Query) *fleet.Conditions {
	c := &fleet.Conditions{StartMs: q.StartMs, EndMs: q.EndMs, Types: q.Types, AfterBatch: q.AfterBatch, Unparsable: q.Unparsable, Mismatch: q.Mismatch, Own: q.Own}
	for _, n := range q.Nodes {
		c.Nodes = append(c.Nodes, []byte(n))
	}
	if q.HasSerial {
		c.Serial = &q.Serial
	}
	for _, p := range q.From {
		c.From = append(c.From, p.String())
	}
	for i := range q.Terms {
		c.Terms = append(c.Terms, toTerm(&q.Terms[i]))
	}
	for i := range q.Filters {
		f := &q.Filters[i]
		out := &fleet.Filter{Not: f.Not, Expression: []byte(f.Expression)}
		if f.Term != nil {
			out.Term = toTerm(f.Term)
		}
		if t := f.Field; t != nil {
			out.Field = &fleet.FieldTest{Name: []byte(t.Name), Op: uint32(t.Op), Text: []byte(t.Text), Words: t.Words}
		}
		c.Filters = append(c.Filters, out)
	}
	return c
}

// toTerm returns a term as a message.
func toTerm(t *query.Term) *fleet.Term {
	out := &fleet.Term{Op: uint32(t.Op), Text: []byte(t.Text), Number: []byte(t.Number)}
	for _, f := range t.Fields {
		out.Fields = append(out.Fields, uint32(f))
	}
	return out
}

// fromConditions is the reverse of toConditions. It trusts nothing: anybody may have sent c.
func fromConditions(c *fleet.Conditions) (*query.Query, error) {
	if n := len(c.GetNodes()) + len(c.GetFrom()) + len(c.GetTypes()) + len(c.GetTerms()) + len(c.GetFilters()); n > maxConditions {
		return nil, fmt.Errorf("%w: %d conditions, %d is the most", ErrQuery, n, maxConditions)
	}
	q := &query.Query{Fleet: true, StartMs: c.GetStartMs(), EndMs: c.GetEndMs(), Types: c.GetTypes(), AfterBatch: c.GetAfterBatch(), Unparsable: c.GetUnparsable(), Mismatch: c.GetMismatch(), Own: c.GetOwn()}
	for _, text := range c.GetFrom() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrQuery, err)
		}
		q.From = append(q.From, p)
	}
	for _, n := range c.GetNodes() {
		q.Nodes = append(q.Nodes, string(n))
	}
	if c != nil && c.Serial != nil {
		q.Serial, q.HasSerial = c.GetSerial(), true
	}
	for _, t := range c.GetTerms() {
		term, err := fromTerm(t)
		if err != nil {
			return nil, err
		}
		q.Terms = append(q.Terms, *term)
	}
	for _, f := range c.GetFilters() {
		out := query.Filter{Not: f.GetNot(), Expression: string(f.GetExpression())}
		if t := f.GetTerm(); t != nil {
			term, err := fromTerm(t)
			if err != nil {
				return nil, err
			}
			out.Term = term
		}
		if t := f.GetField(); t != nil {
			if t.GetOp() > maxOp {
				return nil, fmt.Errorf("%w: comparison %d", ErrQuery, t.GetOp())
			}
			out.Field = &query.FieldTest{Name: string(t.GetName()), Op: query.Op(t.GetOp()), Text: string(t.GetText()), Words: t.GetWords()}
		}
		q.Filters = append(q.Filters, out)
	}
	if err := q.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	return q, nil
}

// maxOp is the greatest number that a query.Op can hold; query.Query.Check knows which of them
// exist.
const maxOp = 255

// fromTerm is the reverse of toTerm; it trusts nothing.
func fromTerm(t *fleet.Term) (*query.Term, error) {
	if t.GetOp() > maxOp {
		return nil, fmt.Errorf("%w: comparison %d", ErrQuery, t.GetOp())
	}
	if len(t.GetFields()) > query.NumFields {
		return nil, fmt.Errorf("%w: a term of %d fields", ErrQuery, len(t.GetFields()))
	}
	term := &query.Term{Op: query.Op(t.GetOp()), Text: string(t.GetText()), Number: string(t.GetNumber())}
	for _, f := range t.GetFields() {
		if f >= uint32(query.NumFields) {
			return nil, fmt.Errorf("%w: field %d", ErrQuery, f)
		}
		term.Fields = append(term.Fields, query.Field(f))
	}
	return term, nil
}
