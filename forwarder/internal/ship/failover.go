package ship

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// preferred is an open connection to a server that comes before the present one:
// it has answered, and nothing was sent over it but a heartbeat.
type preferred struct {
	server int
	conn   net.Conn
}

func (p *preferred) close() {
	if p != nil {
		_ = p.conn.Close() // nothing of ours is on it
	}
}

// lookout tries the servers before the n-th until one answers, and offers its
// connection. The returned func ends and joins it; a connection nobody took is
// closed.
func (s *Sender) lookout(ctx context.Context, n int) (offers <-chan *preferred, stop func()) {
	if n == 0 {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	found := make(chan *preferred)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(s.cfg.Probe)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			if p := s.knock(ctx, n); p != nil {
				select {
				case found <- p:
				case <-ctx.Done():
					p.close()
				}
				return
			}
		}
	})
	return found, func() { cancel(); wg.Wait() }
}

// knock returns a connection to the first of n servers that answers, nil when
// none does.
func (s *Sender) knock(ctx context.Context, n int) *preferred {
	for i := range n {
		conn, err := s.greet(ctx, s.cfg.Servers[i])
		if err == nil {
			return &preferred{server: i, conn: conn}
		}
		s.log.Debug("a preferred server is still away", "server", s.cfg.Servers[i], "error", err)
	}
	return nil
}

var errGreeting = errors.New("it answers, but not plainly")

// greet connects, and sees whether the server answers a heartbeat: one that is
// full, or refuses us, takes the connection too.
func (s *Sender) greet(ctx context.Context, server string) (_ net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	conn, err := s.cfg.Dial(ctx, server)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = conn.Close() // nothing of ours is on it
		}
	}()
	if s.cfg.Format == ASCII {
		return conn, nil
	}
	unblock := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer unblock()
	const seq = 0x7fffffff // no heartbeat of a session has it
	if _, err := conn.Write(remote.Append(nil, remote.Heartbeat, seq, nil)); err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	var dec remote.Decoder
	buf := make([]byte, 0, remote.MaxFrame)
	for {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return nil, fmt.Errorf("heartbeat: %w", err)
		}
		buf = buf[:len(buf)+n]
		f, used, err := dec.Decode(buf)
		switch {
		case err != nil:
			return nil, fmt.Errorf("heartbeat: %w", err)
		case used == 0 && len(buf) < cap(buf):
			continue
		case used != len(buf) || !f.Type.IsReply() || f.Type.IsFatal() || f.Type == remote.Ending || f.Seq != seq:
			return nil, errGreeting
		case !unblock():
			return nil, ctx.Err()
		}
		return conn, nil
	}
}
