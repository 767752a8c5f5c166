package agent

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/auditfleet/auditfleet/forwarder/internal/kernel/kerneltest"
	"github.com/auditfleet/auditfleet/internal/need"
	"github.com/auditfleet/auditfleet/proto/remote"
)

func TestMain(m *testing.M) {
	kerneltest.Child()
	need.Parallel(8)
	goleak.VerifyTestMain(m)
}

// collector is a server that acknowledges everything and keeps it.
type collector struct {
	addr string
	ln   net.Listener
	wg   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	lines []string
	seqs  map[uint32]bool
	twice int
	conns map[net.Conn]bool
	// reply answers a record with something else than ACK; nil: never. What is
	// refused is not kept.
	reply func(line string) remote.Type
	held  bool // nothing is answered
}

// hold stops all answers, and goes on by cutting what hung.
func (c *collector) hold(on bool) {
	c.mu.Lock()
	c.held = on
	c.mu.Unlock()
	if !on {
		c.cut()
	}
}

// cut closes every connection.
func (c *collector) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
		delete(c.conns, conn)
	}
}

// answer changes what records are answered with.
func (c *collector) answer(f func(line string) remote.Type) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reply = f
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return collectorOn(t, ln)
}

func collectorOn(t testing.TB, ln net.Listener) *collector {
	c := &collector{addr: ln.Addr().String(), ln: ln, seqs: map[uint32]bool{}, conns: map[net.Conn]bool{}}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns[conn] = true
			c.mu.Unlock()
			c.wg.Add(1)
			go c.serve(conn)
		}
	}()
	t.Cleanup(c.close)
	return c
}

func (c *collector) close() {
	c.ln.Close()
	c.mu.Lock()
	for conn := range c.conns {
		conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// idle says whether nobody is connected.
func (c *collector) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns) == 0
}

func (c *collector) serve(conn net.Conn) {
	defer c.wg.Done()
	defer func() {
		conn.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.conns, conn)
	}()
	buf, have := make([]byte, 64<<10), 0
	var dec remote.Decoder
	for {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return
		}
		have += n
		used := 0
		var out []byte
		c.mu.Lock()
		if c.held {
			have = 0
		}
		for {
			f, n, err := dec.Decode(buf[used:have])
			if err != nil || n == 0 {
				break
			}
			used += n
			reply := remote.Ack
			if f.Type == remote.Message && c.reply != nil {
				reply = c.reply(string(f.Payload))
			}
			if f.Type == remote.Message && !reply.IsFatal() {
				if c.seqs[f.Seq] {
					c.twice++
				} else {
					c.seqs[f.Seq] = true
					c.lines = append(c.lines, string(f.Payload))
				}
			}
			out = remote.Append(out, reply, f.Seq, nil)
		}
		c.mu.Unlock()
		have = copy(buf, buf[used:have])
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

func (c *collector) got() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.lines...)
}

// again is how many records came a second time.
func (c *collector) again() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.twice
}

var wait = need.Wait

// started is an agent that runs.
type started struct {
	*Agent
	stop, kill context.CancelFunc
	done       chan error
	once       sync.Once
	err        error
}

func startAgent(t testing.TB, cfg Config) *started {
	t.Helper()
	a, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	soft, stop := context.WithCancel(context.Background())
	abort, kill := context.WithCancel(context.Background())
	s := &started{Agent: a, stop: stop, kill: kill, done: make(chan error, 1)}
	go func() { s.done <- a.Run(soft, abort) }()
	t.Cleanup(func() {
		stop()
		kill()
		s.end(t)
	})
	return s
}

// end waits for Run and closes; it returns Run's error.
func (s *started) end(t testing.TB) error {
	t.Helper()
	s.once.Do(func() {
		s.err = <-s.done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s.stop()
		s.kill()
	})
	return s.err
}

func fileLines(t testing.TB, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	return lines
}

func sample(from, n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf(`type=SYSCALL msg=audit(1700000000.%03d:%d): arch=c000003e syscall=110 comm="x" key="k%d"`, (from+i)%1000, from+i, from+i)
	}
	return lines
}
