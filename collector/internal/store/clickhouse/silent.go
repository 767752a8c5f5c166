package clickhouse

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// silentTime is how long a server may say and take nothing while it owes an answer, or takes a block. One that works says every 100 ms how far it is; one
// that waits for the quorum of an insert says nothing for so long.
const silentTime = quorumTime + 15*time.Second

// dialer connects to servers, by TLS where a configuration is given, so that one that hangs is noticed however long an answer may take.
func dialer(t *tls.Config) func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		conn = &watched{Conn: conn}
		if t == nil {
			return conn, nil
		}
		x := tls.Client(conn, named(t, addr))
		if err := x.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // the first error says it
			return nil, err
		}
		return x, nil
	}
}

// named is a configuration for a server of that address.
func named(t *tls.Config, addr string) *tls.Config {
	if t.ServerName != "" {
		return t
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	t = t.Clone()
	t.ServerName = host
	return t
}

// watched is a connection each of whose reads and writes has a deadline of its own, beside what is set for all of them.
type watched struct {
	net.Conn
	mu          sync.Mutex // guards what follows
	read, write time.Time  // deadlines that were set; zero: none
}

// until is the deadline of what begins now.
func until(set time.Time) time.Time {
	own := time.Now().Add(silentTime)
	if !set.IsZero() && set.Before(own) {
		return set
	}
	return own
}

func (w *watched) Read(b []byte) (int, error) {
	w.mu.Lock()
	err := w.Conn.SetReadDeadline(until(w.read))
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return w.Conn.Read(b)
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	err := w.Conn.SetWriteDeadline(until(w.write))
	w.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return w.Conn.Write(b)
}

func (w *watched) SetDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read, w.write = t, t
	return w.Conn.SetDeadline(t)
}

func (w *watched) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = t
	return w.Conn.SetReadDeadline(t)
}

func (w *watched) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write = t
	return w.Conn.SetWriteDeadline(t)
}
