package ship

import (
	"context"
	"sync"
	"time"
)

// preferred is an open connection to a server that precedes the present one in the list:
// the server has answered, and the connection has carried nothing but a heartbeat.
type preferred struct {
	server int
	conn   Conn
}

func (p *preferred) close() {
	if p != nil {
		_ = p.conn.Close(false) // nothing of ours is on it
	}
}

// lookout starts a goroutine that tries the servers before the n-th until one answers, and
// then offers its connection. stop ends and joins the goroutine, and closes a connection
// that nobody received.
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

// knock returns a connection to the first of the first n servers that answers, nil when
// none does.
func (s *Sender) knock(ctx context.Context, n int) *preferred {
	for i := range n {
		s.keepAcked()
		pctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
		conn, err := s.cfg.Transport.Probe(pctx, s.cfg.Servers[i], s.sending())
		cancel()
		if err == nil {
			return &preferred{server: i, conn: conn}
		}
		s.log.Debug("a preferred server is still away", "server", s.cfg.Servers[i], "error", err)
	}
	return nil
}
