package calltls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
)

// ErrNoServer is returned where nobody listens.
var ErrNoServer = errors.New("nobody answers there")

// Conn is a client's connections to its server. The caller closes it.
type Conn struct {
	*grpc.ClientConn
	ready chan net.Conn // the first connection, until gRPC takes it
}

// Close ends the connections.
func (c *Conn) Close() error {
	err := c.ClientConn.Close()
	select {
	case first := <-c.ready:
		first.Close()
	default:
	}
	return err
}

// Client returns a client that calls one server: gRPC gets the connection that was just made, first; further ones
// it makes with dial.
func Client(creds credentials.TransportCredentials, first net.Conn, dial func(context.Context) (net.Conn, error), options ...grpc.DialOption) (*Conn, error) {
	ready := make(chan net.Conn, 1)
	ready <- first
	conn, err := grpc.NewClient("passthrough:///collector", append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case c := <-ready:
				return c, nil
			default:
				return dial(ctx)
			}
		}),
	}, options...)...)
	if err != nil {
		first.Close()
		return nil, err
	}
	return &Conn{conn, ready}, nil
}

// connectTime is how long a server may take to answer a connection, and how long to answer the handshake.
const connectTime = 10 * time.Second

// Dial connects to a server, HOST:PORT, as the client that cfg has a certificate of, and returns when the server has
// taken that: who is refused hears why before anything is asked. explain words what TLS says. Errors: ErrNoServer.
func Dial(ctx context.Context, server string, cfg *tls.Config, explain func(error) error, options ...grpc.DialOption) (*Conn, error) {
	d := net.Dialer{Timeout: connectTime}
	first, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	creds := New(cfg)
	c, err := Client(creds, first, func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", server) }, options...)
	if err != nil {
		return nil, err
	}
	if err := c.established(ctx, creds); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", server, explain(err)), c.Close())
	}
	return c, nil
}

// established waits until the first connection can be used.
func (c *Conn) established(ctx context.Context, creds *Credentials) error {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	c.Connect()
	for {
		state := c.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			err := creds.Failed()
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if !c.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}
