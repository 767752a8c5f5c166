// Package remote carries records to a server by the audisp-remote protocol over TCP: its
// frames, the sequence ids of records and heartbeats, and what its replies mean. What is
// sent when, how long a reply may take and what comes after a failure is package ship's,
// which this package implements Transport and Conn for; forwarder's cli may import it.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/forwarder/internal/ship"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// Format is how records look on the wire.
type Format uint8

const (
	// Managed has a header and a reply for each record.
	Managed Format = iota
	// ASCII has one record a line and no reply: a record counts as delivered when this
	// host's kernel has accepted it, so records in transit when the connection breaks
	// are lost.
	ASCII
)

// Transport is a ship.Transport for the audisp-remote protocol over TCP. The zero value is
// ready to use. It has no state, so any goroutine may call its methods.
type Transport struct {
	Format Format
	// LocalPort is the local port of connections, 0: any. Connect, where set, ignores it.
	LocalPort int
	// Connect opens a connection; nil: TCP with keepalive.
	Connect func(ctx context.Context, server string) (net.Conn, error)
}

// MaxRecord implements ship.Transport. A stock server keeps less (remote.StockServerMax):
// it acknowledges a longer record and then closes the connection, which costs a reconnect.
func (t Transport) MaxRecord() int { return remote.MaxLength }

// MaxWindow implements ship.Transport.
func (t Transport) MaxWindow() int { return ship.MaxWindow }

// Answers implements ship.Transport.
func (t Transport) Answers() bool { return t.Format == Managed }

// Dial implements ship.Transport. server is HOST:PORT.
func (t Transport) Dial(ctx context.Context, server string, _ ship.Sending) (ship.Conn, error) {
	c, err := t.dial(ctx, server)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (t Transport) dial(ctx context.Context, server string) (*conn, error) {
	connect := t.Connect
	if connect == nil {
		connect = t.Open
	}
	c, err := connect(ctx, server)
	if err != nil {
		return nil, err
	}
	return newConn(c, t.Format), nil
}

// Open connects by TCP with keepalive, from a fixed port when it isn't 0.
func (t Transport) Open(ctx context.Context, server string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}}
	if t.LocalPort > 0 {
		d.LocalAddr = &net.TCPAddr{Port: t.LocalPort}
		// The last connection from this port may be in TIME_WAIT, and that to another
		// server may be open while this one is tried.
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			})
			return errors.Join(err, failed)
		}
	}
	return d.DialContext(ctx, "tcp", server)
}

var errGreeting = errors.New("it answers, but not plainly")

// Probe implements ship.Transport: it sends a heartbeat, and wants nothing but the plain
// answer to it.
func (t Transport) Probe(ctx context.Context, server string, _ ship.Sending) (ship.Conn, error) {
	c, err := t.dial(ctx, server)
	if err != nil {
		return nil, err
	}
	if t.Format == ASCII {
		return c, nil
	}
	// With ctx, what waits ends, and the connection stays unusable.
	unblock := context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	err = c.greet()
	if !unblock() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, errors.Join(err, c.net.Close())
	}
	return c, nil
}

// greet sends a heartbeat and waits for its answer.
func (c *conn) greet() error {
	if _, err := c.Beat(); err != nil {
		return fmt.Errorf("heartbeat: %w", err)
	}
	var replies []ship.Reply
	for len(replies) == 0 {
		var err error
		if replies, err = c.Receive(replies); err != nil {
			return fmt.Errorf("heartbeat: %w", err)
		}
	}
	r := replies[0]
	if len(replies) > 1 || c.have > 0 || r.Outcome != ship.Alive || r.Complaint != nil && r.Complaint.Condition.Refuses() {
		return errGreeting
	}
	return nil
}
