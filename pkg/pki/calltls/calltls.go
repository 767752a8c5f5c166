// Package calltls is TLS as a client of gRPC has it: its credentials remember why a connection
// could not be made, of which gRPC keeps only a text, and hear what a server says first, so
// that who is refused learns why. Every client of the gRPC API may import it.
package calltls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// Credentials are those of one client. Any goroutine may call their methods.
type Credentials struct {
	credentials.TransportCredentials
	failed chan error
}

// New returns credentials that shake hands by a configuration of pki.Trust.Client.
func New(cfg *tls.Config) *Credentials {
	return &Credentials{credentials.NewTLS(cfg), make(chan error, 1)}
}

// Note keeps an error as the reason why there is no connection, if it is the first one.
func (c *Credentials) Note(err error) {
	select {
	case c.failed <- err:
	default:
	}
}

// Failed returns the first reason why there is no connection, once; nil without one.
func (c *Credentials) Failed() error {
	select {
	case err := <-c.failed:
		return err
	default:
		return nil
	}
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *Credentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err == nil {
		secured, err = firstWord(ctx, secured)
	}
	if err != nil {
		c.Note(err)
	}
	return secured, info, err
}

// Clone implements credentials.TransportCredentials.
func (c *Credentials) Clone() credentials.TransportCredentials {
	return &Credentials{c.TransportCredentials.Clone(), c.failed}
}

// heard is a connection whose first byte was read already.
type heard struct {
	net.Conn
	first []byte
}

// Read implements net.Conn.
func (h *heard) Read(p []byte) (int, error) {
	if len(h.first) == 0 {
		return h.Conn.Read(p)
	}
	n := copy(p, h.first)
	h.first = h.first[n:]
	return n, nil
}

// firstWord waits for the first byte of a server. In TLS 1.3 it checks the client after the
// client's own handshake is over: one that refuses us says so there, and who writes before
// has read it may learn of a broken pipe only. A server of HTTP/2 speaks first.
func firstWord(ctx context.Context, c net.Conn) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	first := make([]byte, 1)
	_, err := io.ReadFull(c, first)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &heard{c, first}, nil
}
