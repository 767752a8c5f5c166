//go:build power

package powercut

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sort"
	"sync"
	"time"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// errProtocol is returned when the server broke the protocol.
var errProtocol = errors.New("the server broke the protocol")

// sender sends numbered records of one host, and notes how far the disk's log was when each of them
// was acknowledged. With a window of 1 it numbers its attempts, as audisp-remote does; with a
// larger one each record keeps its number, as our forwarder's do.
type sender struct {
	id     int
	start  time.Time
	window int
	rest   time.Duration // between two batches

	mu    sync.Mutex // guards acks
	acks  []int64    // where the log was once the record was acknowledged
	tries uint32     // the sender's goroutine's
}

func (s *sender) node() string { return fmt.Sprintf("power%d", s.id) }

// record is record n: events of three records and of one alternate, and days pass quickly.
func (s *sender) record(dst []byte, n int) []byte {
	at, serial := s.start.Unix()+int64(n/4)*30, n/4*2+1
	switch n % 4 {
	case 0:
		return fmt.Appendf(dst, `node=%s type=SYSCALL msg=audit(%d.000:%d): arch=c000003e syscall=257 success=yes exit=3 items=1 ppid=1 pid=%d auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=%d comm="cat" exe="/usr/bin/cat" key="power" n=%d`, s.node(), at, serial, n%5000, s.id, n)
	case 1:
		return fmt.Appendf(dst, `node=%s type=PATH msg=audit(%d.000:%d): item=0 name="/srv/data/%d" inode=%d dev=fd:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL n=%d`, s.node(), at, serial, n%997, n, n)
	case 2:
		return fmt.Appendf(dst, `node=%s type=PROCTITLE msg=audit(%d.000:%d): proctitle="cat" n=%d`, s.node(), at, serial, n)
	}
	return fmt.Appendf(dst, `node=%s type=USER_LOGIN msg=audit(%d.000:%d): pid=%d uid=0 auid=1000 ses=%d msg='op=login id=1000 exe="/usr/sbin/sshd" res=success' n=%d`, s.node(), at, serial+1, n%5000, s.id, n)
}

// acked returns how many records were acknowledged for certain when the log had so many bytes. Any
// goroutine may call it.
func (s *sender) acked(position int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sort.Search(len(s.acks), func(i int) bool { return s.acks[i] > position })
}

func (s *sender) all() int { return s.acked(1 << 62) }

// run sends records until ctx is over and what is in flight is acknowledged. It connects again when the
// server goes away, and sends again what was not acknowledged.
func (s *sender) run(ctx context.Context, addr string, position func() int64) error {
	next := s.all()
	for ctx.Err() == nil {
		err := s.connection(&next, addr, func(n int) int {
			if ctx.Err() != nil {
				return n
			}
			return n + s.window
		}, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.acks = append(s.acks, position())
		})
		if errors.Is(err, errProtocol) {
			return err
		}
		sleep(ctx, 20*time.Millisecond)
	}
	return nil
}

// resend sends the records from one to the one before another, as after a lost connection.
func (s *sender) resend(addr string, from, to int) error {
	next := from
	s.tries++ // audisp-remote goes on numbering
	return s.connection(&next, addr, func(int) int { return to }, func() {})
}

// connection sends the records from next on, up to what until says of the number sent so far, with at most
// window in flight. It returns once all are acknowledged, or with an error; next is then the first
// that was not.
func (s *sender) connection(next *int, addr string, until func(int) int, acked func()) error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, 16, byte(1 + s.id)}), 0)), Timeout: time.Minute}
	conn, err := d.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var seqs []uint32
	var out, raw []byte
	for sent := *next; ; {
		out = out[:0]
		for end := until(sent); sent < end && len(seqs) < s.window; sent++ {
			seq := 0x80000000 | uint32(sent+1)
			if s.window == 1 {
				s.tries++
				seq = s.tries
			}
			raw = s.record(raw[:0], sent)
			out = remote.Append(out, remote.Message, seq, raw)
			seqs = append(seqs, seq)
		}
		if len(seqs) == 0 {
			return nil
		}
		_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
		if _, err := conn.Write(out); err != nil {
			return err
		}
		if err := answer(in, seqs[0]); err != nil {
			return fmt.Errorf("%s: record %d: %w", s.node(), *next, err)
		}
		seqs = append(seqs[:0], seqs[1:]...)
		*next++
		acked()
		time.Sleep(s.rest)
	}
}

// answer reads one and wants it to be the ACK of seq.
func answer(in *bufio.Reader, seq uint32) error {
	head, err := in.Peek(remote.HeaderSize)
	if err != nil {
		return err
	}
	b := make([]byte, remote.HeaderSize+int(head[10])|int(head[11])<<8)
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	f, n, err := new(remote.Decoder).Decode(b)
	switch {
	case err != nil || n == 0:
		return fmt.Errorf("%w: %x: %w", errProtocol, b, err)
	case f.Type == remote.Ack && f.Seq != seq:
		return fmt.Errorf("%w: an ACK for %d, of %d expected", errProtocol, f.Seq, seq)
	case f.Type != remote.Ack:
		return fmt.Errorf("the server did not take it: %v", f.Type)
	}
	return nil
}

// sleep waits for a while, or until ctx is over.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// start starts senders. What it returns ends them, and returns their first error.
func start(senders []*sender, c *harness.Collector, position func() int64) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, len(senders))
	for _, s := range senders {
		go func() { errs <- s.run(ctx, c.Addr(), position) }()
	}
	return func() error {
		cancel()
		var all []error
		for range senders {
			all = append(all, <-errs)
		}
		return errors.Join(all...)
	}
}
