// Package api is the collector's query interface, both ends of it: the gRPC
// service that answers from a source of events, the client that the command line
// asks it with, and how a search.Query travels between them. The collector's
// server, command line and web pages may import it.
package api

import (
	"errors"
	"fmt"

	"github.com/auditfleet/auditfleet/pkg/search"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// ErrQuery is returned for a query that this collector does not understand: it
// was made by a newer version, or is none.
var ErrQuery = errors.New("the collector does not understand the query")

// maxConditions bounds what one query may ask for: its cost is theirs times the
// events looked at.
const maxConditions = 4096

// toRequest is a query as it travels.
func toRequest(q *search.Query, limit uint64) *fleet.SearchRequest {
	req := &fleet.SearchRequest{StartMs: q.StartMs, EndMs: q.EndMs, Types: q.Types, Limit: limit}
	for _, n := range q.Nodes {
		req.Nodes = append(req.Nodes, []byte(n))
	}
	if q.HasSerial {
		req.Serial = &q.Serial
	}
	for i := range q.Terms {
		t := &q.Terms[i]
		out := &fleet.Term{Op: uint32(t.Op), Text: []byte(t.Text), Number: []byte(t.Number)}
		for _, f := range t.Fields {
			out.Fields = append(out.Fields, uint32(f))
		}
		req.Terms = append(req.Terms, out)
	}
	return req
}

// fromRequest is the reverse of toRequest, for what anybody may have sent.
func fromRequest(req *fleet.SearchRequest) (*search.Query, error) {
	if n := len(req.GetNodes()) + len(req.GetTypes()) + len(req.GetTerms()); n > maxConditions {
		return nil, fmt.Errorf("%w: %d conditions, %d is the most", ErrQuery, n, maxConditions)
	}
	q := &search.Query{StartMs: req.GetStartMs(), EndMs: req.GetEndMs(), Types: req.GetTypes()}
	for _, n := range req.GetNodes() {
		q.Nodes = append(q.Nodes, string(n))
	}
	if req.Serial != nil {
		q.Serial, q.HasSerial = req.GetSerial(), true
	}
	for _, t := range req.GetTerms() {
		if t.GetOp() > uint32(search.OpUser) {
			return nil, fmt.Errorf("%w: comparison %d", ErrQuery, t.GetOp())
		}
		if len(t.GetFields()) == 0 || len(t.GetFields()) > search.NumFields {
			return nil, fmt.Errorf("%w: a term of %d fields", ErrQuery, len(t.GetFields()))
		}
		term := search.Term{Op: search.Op(t.GetOp()), Text: string(t.GetText()), Number: string(t.GetNumber())}
		for _, f := range t.GetFields() {
			if f >= uint32(search.NumFields) {
				return nil, fmt.Errorf("%w: field %d", ErrQuery, f)
			}
			term.Fields = append(term.Fields, search.Field(f))
		}
		q.Terms = append(q.Terms, term)
	}
	return q, nil
}
