package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// Paced is a fleet of stop-and-wait senders that do not send as fast as they can: each
// sends a record when something happens on its host, at random times.
type Paced struct {
	Addr   string
	Conns  int
	Rate   int // records/s of all together
	For    time.Duration
	Corpus *Corpus
	Seed   uint64
}

// Connect opens the connections and waits until one record is acknowledged on each. The
// function that it returns sends the other records, so that a measurement covers
// established sessions only.
func (l *Paced) Connect(ctx context.Context) (send func() (*LoadResult, error), returned error) {
	each := int(float64(l.Rate) / float64(l.Conns) * l.For.Seconds() * 2)
	load := &Load{Conns: l.Conns, Records: l.Conns * (each + 20), Corpus: l.Corpus, Seed: l.Seed}
	conns, err := load.prepare()
	if err != nil {
		return nil, err
	}
	sockets, closeAll, err := dialAll(ctx, l.Addr, conns)
	if err != nil {
		return nil, err
	}
	for i, c := range conns {
		if err := c.exchange(sockets[i]); err != nil {
			closeAll()
			return nil, err
		}
		c.sample = c.sample[:0]
	}
	return func() (*LoadResult, error) {
		defer closeAll()
		until := time.Now().Add(l.For)
		var wg sync.WaitGroup
		errs := make([]error, l.Conns)
		for i, c := range conns {
			rng := rand.New(rand.NewPCG(l.Seed, uint64(i)))
			wg.Add(1)
			go func() {
				defer wg.Done()
				errs[i] = c.pace(ctx, sockets[i], rng, float64(l.Conns)/float64(l.Rate), until)
			}()
		}
		wg.Wait()
		return result(conns, l.For), firstErrors(errs)
	}, nil
}

// pace sends a record every so many seconds on average, and waits for its ACK.
func (c *loadConn) pace(ctx context.Context, s net.Conn, rng *rand.Rand, mean float64, until time.Time) error {
	for c.acked < len(c.ends) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(rng.ExpFloat64() * mean * float64(time.Second))):
		}
		if !time.Now().Before(until) {
			return nil
		}
		if err := c.exchange(s); err != nil {
			return err
		}
	}
	return nil
}

// exchange sends the next record and waits for its ACK.
func (c *loadConn) exchange(s net.Conn) error {
	from := 0
	if c.acked > 0 {
		from = c.ends[c.acked-1]
	}
	began := time.Now()
	if err := s.SetDeadline(began.Add(time.Minute)); err != nil {
		return err
	}
	if _, err := s.Write(c.frames[from:c.ends[c.acked]]); err != nil {
		return err
	}
	var in [remote.HeaderSize]byte
	if _, err := io.ReadFull(s, in[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no ACK of record %d within 30s", c.acked+1)
		}
		return err
	}
	if want := remote.AppendHeader(nil, remote.Ack, uint32(c.acked+1), 0); !bytes.Equal(in[:], want) { //nolint:gosec // few
		return fmt.Errorf("got % x instead of the ACK of record %d", in, c.acked+1)
	}
	c.sample = append(c.sample, time.Since(began))
	c.acked++
	return nil
}
