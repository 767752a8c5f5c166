// Package api is the collector's query interface, both ends of it: the gRPC
// service that answers from a source of events, the client that the command line
// asks it with, and how a query.Query travels between them. The collector's
// server, command line and web pages may import it.
package api

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// ErrQuery is returned for a query that this collector does not understand: it
// was made by a newer version, or is none.
var ErrQuery = errors.New("the collector does not understand the query")

// maxConditions bounds what one query may ask for: its cost is theirs times the
// events looked at.
const maxConditions = 4096

// queryVersion grows with what a request can ask for: a collector that does not
// know it must not answer as if it had not been asked. A tally asks for tallyVersion,
// senders for fromVersion, batches for batchVersion, the latest.
const (
	queryVersion = 2
	fromVersion  = 4
	batchVersion = 5
)

// toRequest is a query as it travels.
func toRequest(q *query.Query, limit uint64) *fleet.SearchRequest {
	req := &fleet.SearchRequest{Version: queryVersion, StartMs: q.StartMs, EndMs: q.EndMs, Types: q.Types, Limit: limit, Reverse: q.Reverse}
	for _, n := range q.Nodes {
		req.Nodes = append(req.Nodes, []byte(n))
	}
	if q.HasSerial {
		req.Serial = &q.Serial
	}
	req.Origin = q.Origin
	for _, p := range q.From {
		req.Version = fromVersion
		req.From = append(req.From, p.String())
	}
	if q.Batches || q.AfterBatch > 0 {
		req.Version, req.Batches, req.AfterBatch = batchVersion, q.Batches, q.AfterBatch
	}
	for i := range q.Terms {
		req.Terms = append(req.Terms, toTerm(&q.Terms[i]))
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
		req.Filters = append(req.Filters, out)
	}
	return req
}

func toTerm(t *query.Term) *fleet.Term {
	out := &fleet.Term{Op: uint32(t.Op), Text: []byte(t.Text), Number: []byte(t.Number)}
	for _, f := range t.Fields {
		out.Fields = append(out.Fields, uint32(f))
	}
	return out
}

// fromRequest is the reverse of toRequest, for what anybody may have sent.
func fromRequest(req *fleet.SearchRequest) (*query.Query, error) {
	if n := len(req.GetNodes()) + len(req.GetFrom()) + len(req.GetTypes()) + len(req.GetTerms()) + len(req.GetFilters()); n > maxConditions {
		return nil, fmt.Errorf("%w: %d conditions, %d is the most", ErrQuery, n, maxConditions)
	}
	q := &query.Query{StartMs: req.GetStartMs(), EndMs: req.GetEndMs(), Types: req.GetTypes(), Reverse: req.GetReverse(), Origin: req.GetOrigin(),
		Batches: req.GetBatches(), AfterBatch: req.GetAfterBatch()}
	for _, text := range req.GetFrom() {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrQuery, err)
		}
		q.From = append(q.From, p)
	}
	for _, n := range req.GetNodes() {
		q.Nodes = append(q.Nodes, string(n))
	}
	if req.Serial != nil {
		q.Serial, q.HasSerial = req.GetSerial(), true
	}
	for _, t := range req.GetTerms() {
		term, err := fromTerm(t)
		if err != nil {
			return nil, err
		}
		q.Terms = append(q.Terms, *term)
	}
	for _, f := range req.GetFilters() {
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

// maxOp is the last comparison that fits where one travels; Check knows which
// there are.
const maxOp = 255

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
