// Package grpc carries records to a collector by the Ingest service
// (proto/fleet/ingest.proto): gRPC over TLS 1.3 with certificates at both ends. What is sent
// when, how long a reply may take and what comes after a failure is package ship's, which
// this package implements Transport and Conn for; forwarder's cli may import it.
package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	rpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/forwarder/internal/witness"
	"github.com/auditfleet/auditfleet/pkg/pki"
	"github.com/auditfleet/auditfleet/pkg/pki/calltls"
	"github.com/auditfleet/auditfleet/proto/fleet"
	"github.com/auditfleet/auditfleet/proto/ingest"
)

// Trust says who the servers are, and who we are: a *pki.Trust.
type Trust interface {
	Client(server string, alpn ...string) *tls.Config
	Explain(err error) error
	// Reload reads the files that it is made from again; what is wrong stays as it was.
	Reload() error
}

// Transport is a ship.Transport. Any goroutine may call its methods.
type Transport struct {
	Trust Trust
	// Connect opens the connection below TLS; nil: TCP.
	Connect func(ctx context.Context, server string) (net.Conn, error)
	// Witness keeps what collectors sign of their logs; nil: nobody does.
	Witness *witness.Keeper
}

const (
	// What is in flight has ship's deadline; this is for connections that carry nothing.
	aliveEvery = time.Minute
	aliveWait  = 15 * time.Second
)

// MaxWindow is the most records in flight: 300,000 a second over a round trip of 50 ms. The
// collector knows records that come again by their offsets, however many they are.
const MaxWindow = 16384

// MaxWindow implements ship.Transport.
func (t *Transport) MaxWindow() int { return MaxWindow }

// MaxRecord implements ship.Transport.
func (t *Transport) MaxRecord() int { return ingest.MaxText }

// Answers implements ship.Transport.
func (t *Transport) Answers() bool { return true }

// Probe implements ship.Transport: what Dial waits for is an answer.
func (t *Transport) Probe(ctx context.Context, server string, s ship.Sending) (ship.Conn, error) {
	return t.Dial(ctx, server, s)
}

// Dial implements ship.Transport. server is HOST:PORT, and its certificate must be HOST's.
func (t *Transport) Dial(ctx context.Context, server string, s ship.Sending) (ship.Conn, error) {
	_ = t.Trust.Reload() // it has logged what is wrong; this connection shows whether that matters
	c, err := t.dial(ctx, server, s)
	if err != nil {
		return nil, t.explain(err)
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, server string, s ship.Sending) (_ *conn, err error) {
	connect := t.Connect
	if connect == nil {
		connect = func(ctx context.Context, server string) (net.Conn, error) {
			return (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", server)
		}
	}
	creds := calltls.New(t.Trust.Client(pki.ServerOf(server), "h2"))
	dialed := func(ctx context.Context, server string) (net.Conn, error) {
		c, err := connect(ctx, server)
		if err != nil {
			creds.Note(err)
		}
		return c, err
	}
	client, err := rpc.NewClient("passthrough:///"+server,
		rpc.WithTransportCredentials(creds), rpc.WithContextDialer(dialed), rpc.WithNoProxy(), rpc.WithDisableServiceConfig(), rpc.WithDisableRetry(),
		rpc.WithIdleTimeout(0), rpc.WithKeepaliveParams(keepalive.ClientParameters{Time: aliveEvery, Timeout: aliveWait}),
		rpc.WithInitialWindowSize(64<<10), rpc.WithInitialConnWindowSize(64<<10), rpc.WithReadBufferSize(4<<10), rpc.WithWriteBufferSize(32<<10),
		rpc.WithMaxHeaderListSize(8<<10), rpc.WithDefaultCallOptions(rpc.MaxCallRecvMsgSize(64<<10), rpc.MaxCallSendMsgSize(ingest.MaxMessage)),
	)
	if err != nil {
		return nil, err
	}
	// The call lives as long as the connection. With ctx it ends while Dial waits.
	life, end := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			end()
			err = errors.Join(err, client.Close())
			if cause := creds.Failed(); cause != nil && ctx.Err() == nil {
				err = cause
			}
		}
	}()
	stop := context.AfterFunc(ctx, end)
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
	}()
	stream, err := fleet.NewIngestClient(client).Stream(life)
	if err != nil {
		return nil, err
	}
	c, err := newConn(client, stream, end, s)
	if err != nil {
		return nil, err
	}
	if t.Witness != nil {
		c.witness = t.Witness.Session(server)
	}
	if err := c.greet(); err != nil {
		return nil, err
	}
	c.peer.Name = pki.ServerOf(server) // the handshake has made sure
	if p, ok := peer.FromContext(stream.Context()); ok {
		c.peer.Addr = p.Addr.String()
	}
	c.start()
	return c, nil
}

// explain says what a failure means, in words for an administrator.
func (t *Transport) explain(err error) error {
	var call interface{ GRPCStatus() *status.Status }
	ok, st := errors.As(err, &call), (*status.Status)(nil)
	if ok {
		st = call.GRPCStatus()
	}
	var network *net.OpError
	switch {
	case errors.As(err, &network) && network.Op == "dial":
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), ok && st.Code() == codes.Canceled:
		return errors.New("no answer in time")
	case !ok:
		return t.Trust.Explain(err)
	case st.Code() == codes.Unavailable, st.Code() == codes.Internal:
		// A server refuses a certificate after the client's handshake is over.
		var refusal *pki.Refusal
		if why := t.Trust.Explain(errors.New(st.Message())); errors.As(why, &refusal) && refusal.Reason != pki.Broken {
			return why
		}
		return errors.New(st.Message())
	case st.Code() == codes.Unimplemented:
		return fmt.Errorf("it has no Ingest service: is it a collector with --grpc? %s", st.Message())
	default:
		return fmt.Errorf("%s: %s", st.Code(), st.Message())
	}
}
