package api

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// evidenceLines is the file of a bundle that has a line an event.
const evidenceLines = "events.jsonl"

// Bundle is what a bundle of evidence is asked for, beside the query.
type Bundle struct {
	Words []string // of the command line, as they were typed
	Zone  string   // in which times in them were read
	// Checkpoint is a signed checkpoint by which to prove; nil: one that is signed now.
	Checkpoint []byte
}

// Evidence implements fleet.QueryServer.
func (s *Service) Evidence(req *fleet.EvidenceRequest, stream grpc.ServerStreamingServer[fleet.EvidenceResponse]) error {
	return s.run(stream.Context(), req.GetVersion(), func(c *call) error {
		if s.MakeEvidence == nil {
			return status.Error(codes.Unimplemented, "no evidence is made here")
		}
		q, err := fromConditions(req.GetConditions())
		if err != nil {
			return err
		}
		if len(req.GetWords()) > maxConditions {
			return fmt.Errorf("%w: %d words, %d is the most", ErrQuery, len(req.GetWords()), maxConditions)
		}
		q.Memory = c.memory
		a := Bundle{Words: texts(req.GetWords()), Zone: req.GetZone(), Checkpoint: req.GetCheckpoint()}
		return s.MakeEvidence(c.ctx, q, a, func(file string, piece []byte) error {
			return c.send(func() error { return stream.Send(&fleet.EvidenceResponse{File: file, Piece: piece}) })
		})
	})
}

// Evidence has a bundle made and calls fn with the pieces of its files.
func (c *Client) Evidence(ctx context.Context, q *query.Query, a Bundle, fn func(file string, piece []byte) error) error {
	req := &fleet.EvidenceRequest{Version: version, Conditions: toConditions(q), Zone: a.Zone, Checkpoint: a.Checkpoint}
	for _, w := range a.Words {
		req.Words = append(req.Words, []byte(w))
	}
	return stream(ctx, c, req, c.q.Evidence, func(r *fleet.EvidenceResponse) error { return fn(r.GetFile(), r.GetPiece()) })
}
