package api

import (
	"bytes"
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Source is a collector's events and hosts: those of a running collector, through a Client or
// within its own process, or the files of one that does not run.
type Source interface {
	query.TextSource
	// Hosts lists the hosts, by name.
	Hosts(ctx context.Context) ([]*fleet.Host, error)
	// Coverage calls fn with the answer for each host that the request is about, by name.
	Coverage(ctx context.Context, req *fleet.CoverageRequest, fn func(*fleet.Coverage) error) error
}

// MaxMessage bounds a message in bytes, at either end. Every event fits: the assembler bounds
// events far below.
const MaxMessage = 64 << 20

// Service answers fleet.Query from a source. Its exported fields are set before the first
// call; calls run at the same time.
type Service struct {
	fleet.UnimplementedQueryServer
	Source Source
	// State returns the collector's state.
	State func() *fleet.StatusResponse
	// ListAlerts lists the alerts, the conditions and the sinks; SendTest sends a test through the sink
	// of a name, or through all where it is "". Nil where that is not possible.
	ListAlerts func() *fleet.AlertsResponse
	SendTest   func(ctx context.Context, sink string) ([]*fleet.AlertTest, error)
	// Change changes what is known of hosts, and returns the hosts that were forgotten; nil
	// where that is not possible.
	Change func(context.Context, *store.Change) (forgotten []string, err error)
	// Cluster knows the other collectors that keep events in the same cluster; nil where there is none.
	Cluster Cluster
	// Holder lists and changes what is on hold; nil where that is not possible.
	Holder Holder
	// Importer takes old logs; nil where that is not possible.
	Importer Importer
	// Sealer is the log of the store; nil where there is none.
	Sealer Sealer
	// MakeEvidence makes a bundle and sends its files' pieces; nil where that is not possible.
	MakeEvidence func(ctx context.Context, q *query.Query, a Bundle, send func(file string, piece []byte) error) error
	// SearchText and ReportText carry out Text and Report; nil where that is not possible.
	SearchText, ReportText Command

	calls calls
}

// Search implements fleet.QueryServer.
func (s *Service) Search(req *fleet.SearchRequest, stream grpc.ServerStreamingServer[fleet.SearchResponse]) error {
	return s.run(stream.Context(), req.GetVersion(), func(c *call) error {
		q, err := fromRequest(req)
		if err != nil {
			return err
		}
		watchedOf(c.ctx).query(q)
		if req.GetTexts() && !q.Batches && q.After == nil {
			if err := s.sendPieces(c, req, q, func(msg any) error { return stream.SendMsg(msg) }); !errors.Is(err, store.ErrNoPieces) {
				return err
			}
			return sendTexts(c, s.Source, q, req.GetPacked(), func(t fleet.SentTexts) error { return stream.SendMsg(t) })
		}
		p := newPacker(c, q, func(e *fleet.Events) error { return stream.Send(&fleet.SearchResponse{Events: e}) })
		return flushed(p, s.Source.Scan(c.ctx, q, p.add))
	})
}

// Follow implements fleet.QueryServer.
func (s *Service) Follow(req *fleet.FollowRequest, stream grpc.ServerStreamingServer[fleet.FollowResponse]) error {
	return s.run(stream.Context(), req.GetVersion(), func(c *call) error {
		q, err := fromConditions(req.GetConditions())
		if err != nil {
			return err
		}
		q.Limit, q.Origin, q.Batches = req.GetLimit(), req.GetOrigin(), req.GetBatches()
		p := newPacker(c, q, func(e *fleet.Events) error { return stream.Send(&fleet.FollowResponse{Events: e}) })
		ctx, lacking := NoteLacks(c.ctx)
		told := 0
		return flushed(p, s.source(ctx).Follow(ctx, q, p.add, func(lost uint64) error {
			if err := p.flush(); err != nil {
				return err
			}
			for _, l := range lacking()[told:] { // whoever follows has no end of the answer at which it could be said
				told++
				if err := c.send(func() error { return stream.Send(&fleet.FollowResponse{Lacks: l.message()}) }); err != nil {
					return err
				}
			}
			if lost == 0 {
				return nil
			}
			return c.send(func() error { return stream.Send(&fleet.FollowResponse{Lost: lost}) })
		}))
	})
}

// Tally implements fleet.QueryServer: first the events that are not counted, then the
// counts.
func (s *Service) Tally(req *fleet.TallyRequest, stream grpc.ServerStreamingServer[fleet.TallyResponse]) error {
	return s.run(stream.Context(), req.GetVersion(), func(c *call) error {
		q, fields, err := fromTallyRequest(req)
		if err != nil {
			return err
		}
		q.Memory = c.memory
		watchedOf(c.ctx).query(q, counted(fields)...)
		p := newPacker(c, q, func(e *fleet.Events) error { return stream.Send(&fleet.TallyResponse{Rest: e}) })
		sum, err := s.Source.Tally(c.ctx, q, fields, func(ev *event.Event) error {
			own := *ev
			own.Node = bytes.Clone(ev.Node) // the packer keeps it
			return p.add(&own)
		})
		if err = flushed(p, err); sum == nil || err != nil && len(fields) > 0 {
			return err
		}
		return errors.Join(err, toTally(sum, fields, func(r *fleet.TallyResponse) error {
			return c.send(func() error { return stream.Send(r) })
		}))
	})
}

// flushed sends the events that a source's answer has left in the packer, after err. Of a
// damaged store everything that was read is sent; after other errors nothing more.
func flushed(p *packer, err error) error {
	if err == nil || errors.Is(err, store.ErrDamaged) {
		return errors.Join(err, p.flush())
	}
	return err
}

// Hosts implements fleet.QueryServer.
func (s *Service) Hosts(ctx context.Context, _ *fleet.HostsRequest) (*fleet.HostsResponse, error) {
	noted, lacking := NoteLacks(ctx)
	hosts, err := s.Source.Hosts(noted)
	var collectors []*fleet.Collector
	if err == nil && s.Cluster != nil {
		collectors, err = s.Cluster.Collectors(noted)
	}
	sendLacks(ctx, lacking())
	if err != nil {
		return nil, toStatus(err)
	}
	return &fleet.HostsResponse{Hosts: hosts, Collectors: collectors}, nil
}

// FromHost returns a host as a message.
func FromHost(h *store.Host) *fleet.Host {
	out := &fleet.Host{
		Name: []byte(h.Name), Records: h.Records, Bytes: h.Bytes,
		FirstSeenMs: milli(h.First), LastSeenMs: milli(h.Last), LastEventMs: h.LastEventMs,
		Duplicates: h.Duplicates, Unparsable: h.Unparsable, Also: []byte(h.Also), Lost: h.Lost,
		VerifiedMs: milli(h.Verified), Mismatched: h.Mismatched,
	}
	if lag := h.LagMs; h.Live {
		out.LagMs = &lag
	}
	for _, a := range h.Addrs {
		out.Addresses = append(out.Addresses, a.Unmap().String())
	}
	return out
}

// milli returns a time in ms since 1970, 0 for the zero time.
func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Status implements fleet.QueryServer.
func (s *Service) Status(context.Context, *fleet.StatusRequest) (*fleet.StatusResponse, error) {
	return s.State(), nil
}
