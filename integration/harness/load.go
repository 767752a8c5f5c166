package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// Load drives a server that speaks the audisp-remote protocol with many
// connections, each from a loopback address of its own (a stock server allows
// one connection an address), each keeping Window records in flight.
type Load struct {
	Addr    string
	Conns   int
	Window  int
	Records int           // in all, shared out evenly
	Limit   time.Duration // sending stops then, what is in flight is still waited for; 0 is no limit
	Corpus  *Corpus
	Seed    uint64
	Hosts   int           // node= names, shared out among the connections; 0 is one a connection
	Start   time.Time     // of the first event; an hour ago when zero
	Step    time.Duration // between a connection's events, on average; a millisecond when zero

	RareKey   string // put as the key of every RareEvery-th event of a connection
	RareEvery int

	// Texts are what each connection sends, whole lines, in place of what would be made:
	// Conns is their number then, and Records and what is said of events are not used.
	Texts [][]byte
}

// nodes are the hosts whose records connection i carries.
func (l *Load) nodes(i int) (out []string) {
	hosts := l.Hosts
	if hosts == 0 {
		hosts = l.Conns
	}
	for h := i % hosts; h < hosts; h += l.Conns {
		out = append(out, fmt.Sprintf("host%04d", h))
	}
	return out
}

// LoadResult holds the figures of one run of Load.
type LoadResult struct {
	Acked    int
	Bytes    int64 // of record text that was acknowledged
	Wall     time.Duration
	P50, P99 time.Duration // from the write that held a record to the read that held its ACK
	Max      time.Duration
}

// Rate returns the number of acknowledged records per second.
func (r *LoadResult) Rate() float64 { return float64(r.Acked) / r.Wall.Seconds() }

// loadConn is one connection's prepared records: frames back to back.
type loadConn struct {
	frames []byte
	ends   []int // end of each frame
	from   netip.Addr
	sample []time.Duration
	acked  int
	bytes  int64
}

// prepare makes each connection's records before the clock runs.
func (l *Load) prepare() ([]*loadConn, error) {
	n := l.Conns
	if l.Texts != nil {
		n = len(l.Texts)
	}
	conns, errs := make([]*loadConn, n), make([]error, n)
	var wg sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range conns {
		wg.Add(1)
		free <- struct{}{}
		go func() {
			defer func() { <-free; wg.Done() }()
			conns[i], errs[i] = l.connection(i)
		}()
	}
	wg.Wait()
	return conns, firstErrors(errs)
}

// connection makes the records of one connection.
func (l *Load) connection(i int) (*loadConn, error) {
	var text []byte
	if l.Texts != nil {
		text = l.Texts[i]
	} else {
		var err error
		if text, err = l.text(i); err != nil {
			return nil, err
		}
	}
	c := &loadConn{from: netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)})}
	n := bytes.Count(text, []byte("\n"))
	if l.Texts == nil {
		n = l.Records / l.Conns // the last event may go on beyond it
	}
	c.frames, c.ends = make([]byte, 0, len(text)+16*n), make([]int, 0, n)
	for seq := uint32(1); int(seq) <= n; seq++ {
		line, rest, ok := bytes.Cut(text, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("prepared %d of %d records", seq-1, n)
		}
		c.frames = remote.Append(c.frames, remote.Message, seq, line)
		c.ends, text = append(c.ends, len(c.frames)), rest
	}
	return c, nil
}

// text makes what connection i sends.
func (l *Load) text(i int) ([]byte, error) {
	start, step := l.Start, l.Step
	if start.IsZero() {
		start = time.Now().Add(-time.Hour)
	}
	if step == 0 {
		step = time.Millisecond
	}
	var text bytes.Buffer
	_, err := l.Corpus.Write(&text, Make{
		Seed: l.Seed + uint64(i), Records: l.Records / l.Conns, Nodes: l.nodes(i),
		Start: start, Step: step, RareKey: l.RareKey, RareEvery: l.RareEvery,
	})
	return text.Bytes(), err
}

// Run opens all connections, then sends the records and waits for every ACK.
func (l *Load) Run(ctx context.Context) (*LoadResult, error) {
	conns, err := l.prepare()
	if err != nil {
		return nil, err
	}
	sockets, closeAll, err := dialAll(ctx, l.Addr, conns)
	if err != nil {
		return nil, err
	}
	defer closeAll()
	stopAt := time.Time{}
	begin := time.Now()
	if l.Limit > 0 {
		stopAt = begin.Add(l.Limit)
	}
	stop := context.AfterFunc(ctx, func() {
		for _, s := range sockets {
			_ = s.SetDeadline(time.Unix(1, 0))
		}
	})
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, len(conns))
	for i, c := range conns {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := c.drive(sockets[i], l.Window, stopAt); err != nil {
				errs[i] = fmt.Errorf("connection %d (%s): after %d ACKs: %w", i+1, c.from, c.acked, err)
			}
		}()
	}
	wg.Wait()
	return result(conns, time.Since(begin)), firstErrors(errs)
}

// dialAll connects each from its own address.
func dialAll(ctx context.Context, addr string, conns []*loadConn) (sockets []net.Conn, closeAll func(), err error) {
	sockets = make([]net.Conn, 0, len(conns))
	closeAll = func() {
		for _, s := range sockets {
			s.Close()
		}
	}
	for i, c := range conns {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.from, 0)), Timeout: time.Minute}
		s, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("connection %d of %d: %w", i+1, len(conns), err)
		}
		sockets = append(sockets, s)
	}
	return sockets, closeAll, nil
}

// result sums up what the connections have seen.
func result(conns []*loadConn, wall time.Duration) *LoadResult {
	r := &LoadResult{Wall: wall}
	var all []time.Duration
	for _, c := range conns {
		r.Acked += c.acked
		r.Bytes += c.bytes
		all = append(all, c.sample...)
	}
	if len(all) > 0 {
		slices.Sort(all)
		r.P50, r.P99, r.Max = all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	}
	return r
}

// firstErrors joins the first few: what ails one connection mostly ails all.
func firstErrors(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > 3 {
		errs = append(errs[:3:3], fmt.Errorf("and %d connections more", len(errs)-3))
	}
	return errors.Join(errs...)
}

// drive keeps up to window records in flight until all are acknowledged. One
// goroutine writes and reads by turns: what is in flight fits the sockets'
// buffers, and the load takes as little of the machine as it can.
func (c *loadConn) drive(s net.Conn, window int, stopAt time.Time) error {
	sentAt := make([]time.Time, window) // by record number modulo window
	sent, total := 0, len(c.ends)
	in := make([]byte, 0, 64<<10)
	for c.acked < total {
		if !stopAt.IsZero() && total > sent && time.Now().After(stopAt) {
			total = sent
			continue
		}
		if next := min(total, c.acked+window); next > sent {
			now := time.Now()
			from := 0
			if sent > 0 {
				from = c.ends[sent-1]
			}
			for ; sent < next; sent++ {
				sentAt[sent%window] = now
			}
			if _, err := s.Write(c.frames[from:c.ends[sent-1]]); err != nil {
				return err
			}
		}
		if err := s.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		n, err := s.Read(in[len(in):cap(in)])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("no ACK of record %d within 30s", c.acked+1)
		}
		if err != nil {
			return err
		}
		if in, err = c.replies(in[:len(in)+n], sentAt); err != nil {
			return err
		}
	}
	return nil
}

// replies takes whole frames off the front of buf and returns what is left, moved to its beginning.
func (c *loadConn) replies(buf []byte, sentAt []time.Time) ([]byte, error) {
	now := time.Now()
	rest := buf
	var dec remote.Decoder
	for {
		f, n, err := dec.Decode(rest)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return buf[:copy(buf, rest)], nil
		}
		rest = rest[n:]
		if f.Type != remote.Ack || f.Seq != uint32(c.acked+1) {
			return nil, fmt.Errorf("got %v of record %d instead of the ACK of %d", f.Type, f.Seq, c.acked+1)
		}
		if c.acked%16 == 0 || len(sentAt) == 1 {
			c.sample = append(c.sample, now.Sub(sentAt[c.acked%len(sentAt)]))
		}
		from := 0
		if c.acked > 0 {
			from = c.ends[c.acked-1]
		}
		c.bytes += int64(c.ends[c.acked] - from - remote.HeaderSize)
		c.acked++
	}
}
