package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// Fleet is a number of senders, each at a loopback address of its own, that continue
// whatever happens to the server. Each sends its records in order. After it lost a
// connection it connects again and sends again what was not acknowledged, in the way of
// its kind.
type Fleet struct {
	Addr    string
	Senders int
	// Stock is the number of stop-and-wait senders, which number their attempts as
	// audisp-remote does. The other senders keep Window records in flight, each under a
	// number that stays with the record.
	Stock  int
	Window int
	// Gap is the time between two events of one sender.
	Gap time.Duration
	// Ahead is how many records a sender has at most that are not acknowledged: it makes no more
	// while it is held back. 0: it makes them all the time.
	Ahead int

	senders []*fleetSender
	stop    chan struct{}
	wg      sync.WaitGroup
	acked   atomic.Uint64
	again   atomic.Uint64 // sent more than once
	conns   atomic.Uint64
	odd     atomic.Pointer[error]
}

// fleetSender is one of the senders. Its records are numbered from 0; events of three
// records and of one record alternate. Its goroutine alone writes made, acked and attempt
// while it runs. Check reads made afterwards: call it only after Drain has returned nil,
// when every goroutine has ended.
type fleetSender struct {
	f       *Fleet
	id      int
	stock   bool
	from    netip.Addr
	start   time.Time
	made    int // records that there are
	acked   int
	attempt uint32
}

// Node returns the name of sender i.
func (f *Fleet) Node(i int) string { return fmt.Sprintf("fleet%04d", i) }

// Start starts the senders.
func (f *Fleet) Start() {
	f.stop = make(chan struct{})
	for i := range f.Senders {
		s := &fleetSender{f: f, id: i, stock: i < f.Stock, from: netip.AddrFrom4([4]byte{127, 1, byte(i / 250), byte(1 + i%250)}), start: time.Now()}
		f.senders = append(f.senders, s)
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			s.run()
		}()
	}
}

// Acked returns the number of records acknowledged so far, Again the number of records
// sent more than once, and Connections the number of connections made. Any goroutine may
// call them.
func (f *Fleet) Acked() uint64       { return f.acked.Load() }
func (f *Fleet) Again() uint64       { return f.again.Load() }
func (f *Fleet) Connections() uint64 { return f.conns.Load() }

// Drain stops producing records and waits, at most limit, until all records are
// acknowledged.
func (f *Fleet) Drain(limit time.Duration) error {
	close(f.stop)
	done := make(chan struct{})
	go func() {
		f.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
		left := 0
		for _, s := range f.senders {
			left += s.made - s.acked // a look without a lock, for the message only
		}
		return fmt.Errorf("about %d records were not acknowledged %v after the last was made", left, limit)
	}
	if err := f.odd.Load(); err != nil {
		return *err
	}
	return nil
}

// record is record n of a sender.
func (s *fleetSender) record(dst []byte, n int) []byte {
	serial := n/4*2 + 1
	at := s.start.Unix() + int64(n/400)
	ms := n / 4 % 100 * 10
	switch n % 4 {
	case 0:
		return fmt.Appendf(dst, `node=%s type=SYSCALL msg=audit(%d.%03d:%d): arch=c000003e syscall=257 success=yes exit=3 a0=ffffff9c a1=7ffe%08x items=1 ppid=1 pid=%d auid=1000 uid=0 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 tty=pts0 ses=%d comm="cat" exe="/usr/bin/cat" key="fleet" n=%d`, s.f.Node(s.id), at, ms, serial, n*2654435761, 1000+n%5000, s.id, n)
	case 1:
		return fmt.Appendf(dst, `node=%s type=PATH msg=audit(%d.%03d:%d): item=0 name="/srv/data/%d" inode=%d dev=fd:00 mode=0100644 ouid=0 ogid=0 rdev=00:00 nametype=NORMAL n=%d`, s.f.Node(s.id), at, ms, serial, n%997, n, n)
	case 2:
		return fmt.Appendf(dst, `node=%s type=PROCTITLE msg=audit(%d.%03d:%d): proctitle="cat" n=%d`, s.f.Node(s.id), at, ms, serial, n)
	}
	return fmt.Appendf(dst, `node=%s type=USER_LOGIN msg=audit(%d.%03d:%d): pid=%d uid=0 auid=1000 ses=%d msg='op=login id=1000 exe="/usr/sbin/sshd" hostname=h%d res=success' n=%d`, s.f.Node(s.id), at, ms, serial+1, n%5000, s.id, s.id, n)
}

func (s *fleetSender) stopped() bool {
	select {
	case <-s.f.stop:
		return true
	default:
		return false
	}
}

// due makes the records whose time has come; whole events only.
func (s *fleetSender) due() {
	if !s.stopped() {
		due := int(time.Since(s.start)/s.f.Gap) * 4
		if s.f.Ahead > 0 {
			due = min(due, (s.acked+s.f.Ahead)/4*4)
		}
		s.made = max(s.made, due)
	}
}

func (s *fleetSender) run() {
	wait := 20 * time.Millisecond
	for !s.stopped() || s.acked < s.made {
		before := s.acked
		err := s.connection()
		if err != nil && !expected(err) {
			s.f.odd.CompareAndSwap(nil, &err)
			return
		}
		wait = min(wait*2, time.Second)
		if s.acked > before {
			wait = 20 * time.Millisecond
		}
		time.Sleep(wait)
	}
}

// errProtocol is returned when the server broke the protocol.
var errProtocol = errors.New("the server broke the protocol")

// expected says whether an error is what happens when a server is killed.
func expected(err error) bool { return !errors.Is(err, errProtocol) }

// connection sends over one connection until it ends or there is nothing left.
func (s *fleetSender) connection() error {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.from, 0)), Timeout: time.Minute}
	conn, err := d.DialContext(context.Background(), "tcp", s.f.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	s.f.conns.Add(1)
	in := bufio.NewReaderSize(conn, 4<<10)
	window, sent := s.f.Window, s.acked
	if s.stock {
		window = 1
	}
	seqs := make([]uint32, 0, window) // in flight, the oldest first
	var out, raw []byte
	high := s.acked
	for {
		s.due()
		out = out[:0]
		for sent < s.made && len(seqs) < window {
			seq := 0x80000000 | uint32(sent+1)
			if s.stock {
				s.attempt++
				seq = s.attempt
			}
			raw = s.record(raw[:0], sent)
			out = remote.Append(out, remote.Message, seq, raw)
			seqs = append(seqs, seq)
			sent++
		}
		if len(out) > 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Write(out); err != nil {
				s.f.again.Add(uint64(sent - high))
				return err
			}
		}
		if len(seqs) == 0 {
			if s.stopped() {
				return nil
			}
			time.Sleep(s.f.Gap / 2)
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(60 * time.Second))
		if err := s.reply(in, seqs[0]); err != nil {
			s.f.again.Add(uint64(len(seqs)))
			return err
		}
		seqs = append(seqs[:0], seqs[1:]...)
		s.acked++
		s.f.acked.Add(1)
	}
}

// errRefused is returned for a reply other than ACK: the sender sends the record again
// later.
var errRefused = errors.New("the server did not take it")

// reply reads one and wants it to be the ACK of seq.
func (s *fleetSender) reply(in *bufio.Reader, seq uint32) error {
	head, err := in.Peek(remote.HeaderSize)
	if err != nil {
		return err
	}
	size := remote.HeaderSize + int(head[10]) | int(head[11])<<8
	b := make([]byte, size)
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	f, n, err := new(remote.Decoder).Decode(b)
	switch {
	case err != nil || n == 0:
		return fmt.Errorf("%w: sender %d: %x: %w", errProtocol, s.id, b, err)
	case f.Type == remote.Ack && f.Seq == seq:
		return nil
	case f.Type == remote.Ack:
		return fmt.Errorf("%w: sender %d: an ACK for %d, of %d expected", errProtocol, s.id, f.Seq, seq)
	}
	return fmt.Errorf("%w: %v", errRefused, f.Type)
}

// Check compares found, the raw records that a search found, with what the senders sent:
// each record must be there once, in order and with its bytes.
func (f *Fleet) Check(found io.Reader) error {
	seen := make([][]byte, len(f.senders)) // times each record was found
	for i, s := range f.senders {
		seen[i] = make([]byte, s.made)
	}
	var want []byte
	lines := bufio.NewScanner(found)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	strange := 0
	for lines.Scan() {
		text := lines.Text()
		rest, ok := strings.CutPrefix(text, "node=fleet")
		if !ok {
			continue // the collector's own
		}
		id, err1 := strconv.Atoi(rest[:min(4, len(rest))])
		n, err2 := strconv.Atoi(text[strings.LastIndexByte(text, '=')+1:])
		if err1 != nil || err2 != nil || id >= len(seen) || n >= len(seen[id]) {
			strange++
			continue
		}
		if want = f.senders[id].record(want[:0], n); string(want) != text {
			strange++
			continue
		}
		seen[id][n]++
	}
	if err := lines.Err(); err != nil {
		return err
	}
	missing, twice, all := 0, 0, 0
	example := ""
	for id, list := range seen {
		for n, times := range list {
			all++
			if times == 1 {
				continue
			}
			if times == 0 {
				missing++
			} else {
				twice++
			}
			if example == "" {
				example = fmt.Sprintf("record %d of %s (stock: %v) is there %d times", n, f.Node(id), f.senders[id].stock, times)
			}
		}
	}
	if missing+twice+strange > 0 {
		return fmt.Errorf("of %d records %d are missing, %d are there more than once, %d were never sent; %s", all, missing, twice, strange, example)
	}
	return nil
}
