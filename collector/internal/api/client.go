package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/collector/internal/store/order"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/pki/calltls"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

var (
	// ErrNoServer is returned when nobody answers on the socket: it is not there,
	// or a collector that was killed left it behind.
	ErrNoServer = errors.New("no collector answers")
	// ErrDenied is returned when the socket is there, but not for this user.
	ErrDenied = errors.New("permission denied")
)

// Client asks a running collector. Any number of goroutines may use it.
type Client struct {
	path  string // or HOST:PORT: where it asks
	local bool   // by a unix socket
	// explain says what was wrong with TLS; nil without it.
	explain func(error) error
	conn    *calltls.Conn
	q       fleet.QueryClient
	lacks   lacks
	told    func(Lack) // of what somebody follows; nil: nobody is told at once
}

// Dial connects to the collector that listens on a unix socket. The caller closes the Client.
// Errors: ErrNoServer, ErrDenied.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	first, err := d.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("%s: %w: the collector answers root, its own user and its socket's group", path, ErrDenied)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, syscall.EINVAL): // longer than a socket's path can be
		return nil, fmt.Errorf("%s: %w", path, ErrNoServer)
	default:
		return nil, fmt.Errorf("connect to the collector: %w", err)
	}
	conn, err := calltls.Client(insecure.NewCredentials(), first, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", path) }, callOptions...)
	if err != nil {
		return nil, fmt.Errorf("connect to the collector: %w", err)
	}
	return &Client{path: path, local: true, conn: conn, q: fleet.NewQueryClient(conn)}, nil
}

// callOptions are those of every connection.
var callOptions = []grpc.DialOption{
	grpc.WithInitialWindowSize(1 << 20), grpc.WithInitialConnWindowSize(4 << 20), grpc.WithReadBufferSize(256 << 10),
	grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.ForceCodecV2(fleet.Codec{})),
}

// DialTLS connects to a collector's --grpc port from anywhere, as the client that cfg has a
// certificate of, and returns when the collector has taken that: who is refused hears why before
// anything is asked. explain words what TLS says. The caller closes the Client.
func DialTLS(ctx context.Context, server string, cfg *tls.Config, explain func(error) error) (*Client, error) {
	conn, err := calltls.Dial(ctx, server, cfg, explain, callOptions...)
	if errors.Is(err, calltls.ErrNoServer) {
		err = fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	if err != nil {
		return nil, err
	}
	return &Client{path: server, explain: explain, conn: conn, q: fleet.NewQueryClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

var _ Source = (*Client)(nil)

// Scan implements query.Source. Of a damaged store, fn gets all events that could be read,
// before Scan returns an error that wraps store.ErrDamaged.
func (c *Client) Scan(ctx context.Context, q *query.Query, fn func(*event.Event) error) error {
	return stream(ctx, c, toRequest(q), c.q.Search, func(r *fleet.SearchResponse) error { return unpack(r.GetEvents(), fn) })
}

// ScanText implements query.TextSource. Of a damaged store, it does as Scan.
func (c *Client) ScanText(ctx context.Context, q *query.Query, fn func(query.Texts) error) error {
	if q.Batches || q.After != nil {
		return fmt.Errorf("%w: pages have events", ErrQuery)
	}
	req := toRequest(q)
	req.Texts, req.Packed = true, !c.local // to pack takes longer than a machine's own socket does
	if inPieces(q) {
		req.Frames = order.Reads
		return c.scanPieces(ctx, req, q, fn)
	}
	return stream(ctx, c, req, c.q.Search, func(r *fleet.SearchResponse) error { return given(r, fn) })
}

// given gives the texts of a response.
func given(r *fleet.SearchResponse, fn func(query.Texts) error) error {
	t := &received{SearchResponse: r}
	if t.Len() == 0 {
		return nil
	}
	return fn(t)
}

// Follow implements query.Source.
func (c *Client) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, idle func(lost uint64) error) error {
	req := &fleet.FollowRequest{Version: version, Conditions: toConditions(q), Limit: q.Limit, Origin: q.Origin, Batches: q.Batches}
	return stream(ctx, c, req, c.q.Follow, func(r *fleet.FollowResponse) error {
		if r.GetLacks() != nil {
			c.lacksNow(r.GetLacks())
		}
		if err := unpack(r.GetEvents(), fn); err != nil {
			return err
		}
		return idle(r.GetLost())
	})
}

// Tally implements query.Source. Errors: ErrQuery for a collector that cannot count so.
func (c *Client) Tally(ctx context.Context, q *query.Query, fields []query.Field, rest func(*event.Event) error) (*query.Tally, error) {
	req := &fleet.TallyRequest{Version: version, Conditions: toConditions(q), Limit: q.Limit, Names: q.Names}
	for _, f := range fields {
		req.Fields = append(req.Fields, uint32(f))
	}
	sum := query.NewTally(fields, q.Memory)
	err := stream(ctx, c, req, c.q.Tally, func(r *fleet.TallyResponse) error {
		if err := unpack(r.GetRest(), rest); err != nil {
			return err
		}
		return addTally(sum, r)
	})
	if err == nil && !combined(sum) {
		err = errNoCombinations
	}
	return sum, err
}

// About implements query.Source.
func (c *Client) About(ctx context.Context) (query.About, error) {
	st, err := c.Status(ctx)
	return query.About{Indexed: true, Store: st.GetStoreId(), Batch: st.GetBatch()}, err
}

// stream makes a call and passes each response to handle, whose error ends the call:
// query.ErrStop without an error.
func stream[Req, Resp any](ctx context.Context, c *Client, req *Req,
	call func(context.Context, *Req, ...grpc.CallOption) (grpc.ServerStreamingClient[Resp], error), handle func(*Resp) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	responses, err := call(ctx, req)
	if err != nil {
		return c.failed(err)
	}
	for {
		resp, err := responses.Recv()
		if err != nil {
			c.lacks.took(responses.Trailer())
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.failed(err)
		}
		err = handle(resp)
		if errors.Is(err, query.ErrStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Hosts lists the hosts, by name.
func (c *Client) Hosts(ctx context.Context) ([]*fleet.Host, error) {
	hosts, _, err := c.HostsOfCluster(ctx)
	return hosts, err
}

// HostsOfCluster lists the hosts, by name, and the collectors of a cluster, none where there is no cluster.
func (c *Client) HostsOfCluster(ctx context.Context) ([]*fleet.Host, []*fleet.Collector, error) {
	var trailer metadata.MD
	resp, err := c.q.Hosts(ctx, &fleet.HostsRequest{}, grpc.Trailer(&trailer))
	c.lacks.took(trailer)
	if err != nil {
		return nil, nil, c.failed(err)
	}
	return resp.GetHosts(), resp.GetCollectors(), nil
}

// Status returns the state of the collector that answers.
func (c *Client) Status(ctx context.Context) (*fleet.StatusResponse, error) {
	resp, err := c.q.Status(ctx, &fleet.StatusRequest{})
	if err != nil {
		return nil, c.failed(err)
	}
	return resp, nil
}

// failed returns the error that the service made a status of, by its code, or one that says
// that the collector could not be asked.
func (c *Client) failed(err error) error {
	st, _ := status.FromError(err)
	switch st.Code() {
	case codes.DataLoss:
		return fmt.Errorf("%w: %s", store.ErrDamaged, st.Message())
	case codes.InvalidArgument:
		return fmt.Errorf("%w%s", ErrQuery, strings.TrimPrefix(st.Message(), ErrQuery.Error()))
	case codes.FailedPrecondition:
		return query.ErrNotLive
	case codes.Unimplemented:
		return fmt.Errorf("%w: the collector that runs is older than the program that asks, restart it", ErrQuery)
	case codes.PermissionDenied:
		return fmt.Errorf("%s: %w: %s", c.path, ErrDenied, st.Message())
	case codes.Canceled:
		return fmt.Errorf("search: %w", context.Canceled)
	case codes.ResourceExhausted, codes.Aborted:
		return fmt.Errorf("the collector answers: %s", st.Message())
	case codes.Unavailable:
		// Of a connection that was in use, TLS says nothing but that the certificate is refused now.
		lost := strings.Contains(st.Message(), "error reading from server") && !strings.Contains(st.Message(), "tls: ")
		if c.explain != nil && !lost {
			return fmt.Errorf("%s: %w", c.path, c.explain(errors.New(st.Message())))
		}
		return fmt.Errorf("%s: the collector went away: %s", c.path, st.Message())
	}
	return fmt.Errorf("%s: the collector answers: %s", c.path, st.Message())
}
