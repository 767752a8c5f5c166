package api

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

// Source answers queries: the head of a running collector, or a store.
type Source interface {
	// Scan gives fn the matching events in order; see store.Snapshot.
	Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error
	// Follow gives fn the matching events as they are complete, those there are
	// already first when q.StartMs is not 0; see head.Head.
	Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(lost uint64) error) error
	// Tally counts; see store.Snapshot.
	Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error)
	Hosts() []store.Host // by name
}

const (
	// batchBytes and batchEvents are when a response is sent. gRPC's flow control
	// keeps a slow client from making the collector hold more than a few.
	batchBytes  = 128 << 10
	batchEvents = 4096
	// MaxMessage bounds what either end takes. An event of any size fits: events
	// are bounded by the assembler far below.
	MaxMessage = 64 << 20
	// batchDelay is how long found events may wait for more to fill a response.
	batchDelay = 100 * time.Millisecond
)

// Service answers fleet.Query from a source.
type Service struct {
	fleet.UnimplementedQueryServer
	Source Source
	// State fills in how the collector fares.
	State func() *fleet.StatusResponse
	// Peers are the addresses with a connection open now; nil for none.
	Peers func() map[netip.Addr]bool
	// Rate is a host's records a second, and whether it is known; nil for never.
	Rate func(host string) (float64, bool)

	// Change changes what is known of hosts; nil where that can't be.
	Change func(context.Context, *store.Change) (forgotten []string, err error)

	searches searches
}

// Search implements fleet.QueryServer.
func (s *Service) Search(req *fleet.SearchRequest, stream fleet.Query_SearchServer) error {
	q, err := fromRequest(req)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if req.GetVersion() > batchVersion {
		return status.Errorf(codes.InvalidArgument, "%v: it is of version %d, %d is the latest known", ErrQuery, req.GetVersion(), batchVersion)
	}
	fields, err := tallied(req, q)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	b := &batcher{ctx: ctx, end: cancel, stream: stream, origins: q.Origin, batches: q.Batches, limit: req.GetLimit(), count: req.GetCount(), last: time.Now()}
	if err := s.searches.enter(b); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer s.searches.leave(b)
	switch {
	case len(fields) > 0:
		err = s.tally(ctx, q, fields, b)
	case req.GetFollow():
		err = s.Source.Follow(ctx, q, b.add, func(lost uint64) error {
			b.lost += lost
			return b.send()
		})
	default:
		err = s.Source.Scan(ctx, q, b.add)
	}
	if cause := context.Cause(ctx); errors.Is(cause, errSlow) {
		return status.Error(codes.Aborted, cause.Error())
	}
	b.done = true
	if serr := b.send(); err == nil || errors.Is(err, store.ErrDamaged) {
		err = errors.Join(err, serr)
	}
	return toStatus(err)
}

// toStatus makes an error what a client can tell apart.
func toStatus(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrDamaged):
		return status.Error(codes.DataLoss, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err // the stream's own
	}
	return status.Error(codes.Internal, err.Error())
}

// Hosts implements fleet.QueryServer.
func (s *Service) Hosts(context.Context, *fleet.HostsRequest) (*fleet.HostsResponse, error) {
	var peers map[netip.Addr]bool
	if s.Peers != nil {
		peers = s.Peers()
	}
	resp := &fleet.HostsResponse{}
	for _, h := range s.Source.Hosts() {
		out := FromHost(&h)
		out.Connected = len(h.Addrs) > 0 && peers[h.Addrs[0].Unmap()]
		if s.Rate != nil {
			if rate, known := s.Rate(h.Name); known {
				out.Rate = &rate
			}
		}
		resp.Hosts = append(resp.Hosts, out)
	}
	return resp, nil
}

// FromHost is a host as it travels.
func FromHost(h *store.Host) *fleet.Host {
	out := &fleet.Host{
		Name: []byte(h.Name), Records: h.Records, Bytes: h.Bytes,
		FirstSeenMs: milli(h.First), LastSeenMs: milli(h.Last), LastEventMs: h.LastEventMs,
		Duplicates: h.Duplicates, Unparsable: h.Unparsable, Also: []byte(h.Also),
	}
	for _, a := range h.Addrs {
		out.Addresses = append(out.Addresses, a.Unmap().String())
	}
	return out
}

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
