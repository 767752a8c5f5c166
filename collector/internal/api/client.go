package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/collector/internal/store"
	"github.com/auditfleet/auditfleet/pkg/event"
	"github.com/auditfleet/auditfleet/pkg/query"
	"github.com/auditfleet/auditfleet/pkg/record"
	"github.com/auditfleet/auditfleet/proto/fleet"
)

var (
	// ErrNoServer is returned when nobody answers on the socket: it is not there,
	// or a collector that was killed left it behind.
	ErrNoServer = errors.New("no collector answers")
	// ErrDenied is returned when the socket is there, but not for this user.
	ErrDenied = errors.New("permission denied")
)

// Client asks a running collector.
type Client struct {
	path  string
	ready chan net.Conn // the first connection, until gRPC takes it
	conn  *grpc.ClientConn
	q     fleet.QueryClient
}

// Dial connects to the collector that listens on a unix socket.
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
	// gRPC gets the connection that was just made, and makes its own after that.
	ready := make(chan net.Conn, 1)
	ready <- first
	conn, err := grpc.NewClient("passthrough:///collector",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case c := <-ready:
				return c, nil
			default:
				return d.DialContext(ctx, "unix", path)
			}
		}),
		grpc.WithInitialWindowSize(1<<20), grpc.WithInitialConnWindowSize(4<<20),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)))
	if err != nil {
		first.Close()
		return nil, fmt.Errorf("connect to the collector: %w", err)
	}
	return &Client{path: path, ready: ready, conn: conn, q: fleet.NewQueryClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error {
	err := c.conn.Close()
	select {
	case first := <-c.ready:
		first.Close()
	default:
	}
	return err
}

// Scan gives fn the events that match, in order, at most limit of them when that
// is not 0. The event is fn's to keep. query.ErrStop from fn ends it without an
// error. The events that could be read of a damaged store are given before the
// error that wraps store.ErrDamaged.
func (c *Client) Scan(ctx context.Context, q *query.Query, limit uint64, fn func(*event.Event) error) error {
	return c.search(ctx, toRequest(q, limit), fn, nil)
}

// Follow gives fn the events that match as they are complete, until ctx ends or fn
// fails; those there are already first when q.StartMs is not 0. lost is told of
// events that came faster than fn took them.
func (c *Client) Follow(ctx context.Context, q *query.Query, fn func(*event.Event) error, lost func(n uint64)) error {
	req := toRequest(q, 0)
	req.Follow = true
	return c.search(ctx, req, fn, func(r *fleet.SearchResponse) {
		if n := r.GetLost(); n > 0 && lost != nil {
			lost(n)
		}
	})
}

// Indexed implements query.Indexed: a few events cost little.
func (*Client) Indexed() bool { return true }

// Count says how many events match, up to limit when that is not 0.
func (c *Client) Count(ctx context.Context, q *query.Query, limit uint64) (n uint64, err error) {
	req := toRequest(q, limit)
	req.Count = true
	err = c.search(ctx, req, nil, func(r *fleet.SearchResponse) { n += r.GetFound() })
	return n, err
}

// search gives fn each event of the answer, and each response after that to more.
func (c *Client) search(ctx context.Context, req *fleet.SearchRequest, fn func(*event.Event) error, more func(*fleet.SearchResponse)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.q.Search(ctx, req)
	if err != nil {
		return c.failed(err)
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.failed(err)
		}
		err = unpack(resp, fn)
		if errors.Is(err, query.ErrStop) {
			return nil
		}
		if err != nil {
			return err
		}
		if more != nil {
			more(resp)
		}
	}
}

// errResponse is a response that does not add up.
var errResponse = errors.New("the collector's answer does not add up")

// unpack gives fn each event of a response.
func unpack(resp *fleet.SearchResponse, fn func(*event.Event) error) error {
	raw, sizes := resp.GetRaw(), resp.GetRecordBytes()
	senders, err := fromSenders(resp.GetSenders())
	if err != nil {
		return err
	}
	for _, e := range resp.GetEvents() {
		if uint64(e.GetRecords()) > uint64(len(sizes)) {
			return fmt.Errorf("%w: %d records announced, %d there", errResponse, e.GetRecords(), len(sizes))
		}
		node := e.GetNode()
		if len(node) == 0 {
			node = nil
		}
		ev := &event.Event{Node: node, Ms: e.GetMs(), Serial: e.GetSerial(), Records: make([]record.Record, e.GetRecords()), Batch: e.GetBatch()}
		for i := range ev.Records {
			n := int(sizes[i])
			if n > len(raw) {
				return fmt.Errorf("%w: a record of %d bytes in %d", errResponse, n, len(raw))
			}
			store.ParseRecord(&ev.Records[i], raw[:n:n], node)
			raw = raw[n:]
		}
		sizes = sizes[len(ev.Records):]
		if err := setOrigin(ev, e, senders); err != nil {
			return err
		}
		if err := fn(ev); err != nil {
			return err
		}
	}
	return nil
}

// Hosts lists the hosts, by name.
func (c *Client) Hosts(ctx context.Context) ([]*fleet.Host, error) {
	resp, err := c.q.Hosts(ctx, &fleet.HostsRequest{})
	if err != nil {
		return nil, c.failed(err)
	}
	return resp.GetHosts(), nil
}

// Status says who answers.
func (c *Client) Status(ctx context.Context) (*fleet.StatusResponse, error) {
	resp, err := c.q.Status(ctx, &fleet.StatusRequest{})
	if err != nil {
		return nil, c.failed(err)
	}
	return resp, nil
}

// LastBatch says which store it is and what its last batch is; see query.Batched.
func (c *Client) LastBatch(ctx context.Context) (store string, last uint64, err error) {
	st, err := c.Status(ctx)
	return st.GetStoreId(), st.GetBatch(), err
}

// failed gives a status its sentinel back.
func (c *Client) failed(err error) error {
	st, _ := status.FromError(err)
	switch st.Code() {
	case codes.DataLoss:
		return fmt.Errorf("%w: %s", store.ErrDamaged, st.Message())
	case codes.InvalidArgument:
		return fmt.Errorf("%w: %s", ErrQuery, st.Message())
	case codes.PermissionDenied:
		return fmt.Errorf("%s: %w: %s", c.path, ErrDenied, st.Message())
	case codes.Canceled:
		return fmt.Errorf("search: %w", context.Canceled)
	case codes.ResourceExhausted, codes.Aborted:
		return fmt.Errorf("the collector answers: %s", st.Message())
	case codes.Unavailable:
		return fmt.Errorf("%s: the collector went away: %s", c.path, st.Message())
	}
	return fmt.Errorf("%s: the collector answers: %s", c.path, st.Message())
}
