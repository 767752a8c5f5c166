package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/integration/harness"
	"github.com/auditfleet/auditfleet/proto/remote"
)

// peer is a sender as a test plays it; what happens to it is written down.
type peer struct {
	t    *testing.T
	addr string
	said []string // what the server did, in order
	open []net.Conn
}

func (p *peer) note(format string, args ...any) {
	p.said = append(p.said, fmt.Sprintf(format, args...))
}

// dial connects, from a port of its own when from is not 0.
func (p *peer) dial(from int) net.Conn {
	p.t.Helper()
	d := net.Dialer{Timeout: time.Minute, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: from}}
	d.Control = func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		return errors.Join(cerr, err)
	}
	c, err := d.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.open = append(p.open, c)
	return c
}

// reply writes down the server's next word, or that it hung up, or that it said
// nothing for so long.
func (p *peer) reply(c net.Conn, wait time.Duration) {
	p.t.Helper()
	c.SetReadDeadline(time.Now().Add(wait))
	head := make([]byte, remote.HeaderSize)
	_, err := io.ReadFull(c, head)
	var ne net.Error
	switch {
	case errors.As(err, &ne) && ne.Timeout():
		p.note("silence")
		return
	case err != nil:
		p.note("closed")
		return
	}
	text := make([]byte, int(head[10])|int(head[11])<<8)
	if _, err := io.ReadFull(c, text); err != nil {
		p.t.Fatal(err)
	}
	f, _, err := new(remote.Decoder).Decode(slices.Concat(head, text))
	if err != nil {
		p.t.Fatal(err)
	}
	p.note("%v %d %s", f.Type, f.Seq, f.Payload)
}

func (p *peer) send(c net.Conn, b []byte) {
	p.t.Helper()
	if _, err := c.Write(b); err != nil {
		p.note("cannot send")
	}
}

// record sends one record and writes its reply down.
func (p *peer) record(c net.Conn, seq uint32) {
	p.t.Helper()
	p.send(c, remote.Append(nil, remote.Message, seq, []byte(peerRecord(seq))))
	p.reply(c, time.Minute)
}

func peerRecord(seq uint32) string {
	return fmt.Sprintf("node=peer type=USER_LOGIN msg=audit(1700000000.%03d:%d): pid=1 uid=0 res=success", seq, seq)
}

// flipped is a frame with one byte changed.
func flipped(at int, to byte) []byte {
	b := remote.Append(nil, remote.Message, 1, []byte(peerRecord(1)))
	b[at] = to
	return b
}

const patience = 2 * time.Second // in which a server closes at once, however busy the machine is

// refusals are what a sender can meet, the same at either server.
var refusals = []struct {
	name string
	keys map[string]string // of the server's configuration
	play func(p *peer)
	// differs is what the sender is told here, where that is something else on
	// purpose, and why.
	differs []string
	why     string
}{
	{name: "accepted", play: func(p *peer) {
		c := p.dial(0)
		p.record(c, 1)
		p.record(c, 2)
		p.send(c, remote.Append(nil, remote.Heartbeat, 3, nil))
		p.reply(c, time.Minute)
		c.Close()
	}},
	{name: "dup", play: func(p *peer) {
		first := p.dial(0)
		p.record(first, 1)
		p.reply(p.dial(0), time.Minute)
		p.record(first, 2)
	}},
	{name: "dup beyond two", keys: map[string]string{"tcp_max_per_addr": "2"}, play: func(p *peer) {
		a, b := p.dial(0), p.dial(0)
		p.record(a, 1)
		p.record(b, 2)
		p.reply(p.dial(0), time.Minute)
		p.record(b, 3)
	}},
	{name: "again after the end", play: func(p *peer) {
		c := p.dial(0)
		p.record(c, 1)
		c.Close()
		time.Sleep(patience)
		p.record(p.dial(0), 2)
	}},
	{name: "port", keys: map[string]string{"tcp_client_ports": "900-910"}, play: func(p *peer) {
		p.reply(p.dial(0), time.Minute)
		p.record(p.dial(905), 1)
	}},
	{name: "idle", keys: map[string]string{"tcp_client_max_idle": "1"}, play: func(p *peer) {
		c := p.dial(0)
		p.record(c, 1)
		p.reply(c, time.Minute)
	}},
	{name: "heartbeats keep it", keys: map[string]string{"tcp_client_max_idle": "1"}, play: func(p *peer) {
		c := p.dial(0)
		for seq := uint32(1); seq < 8; seq++ {
			p.send(c, remote.Append(nil, remote.Heartbeat, seq, nil))
			p.reply(c, time.Minute)
			time.Sleep(400 * time.Millisecond)
		}
	}},
	{name: "header version", play: func(p *peer) {
		c := p.dial(0)
		p.send(c, flipped(4, 9))
		p.reply(c, patience)
	}, differs: []string{"closed"}, why: "the stock server does not look at it; what another version means nobody knows"},
	{name: "length", play: func(p *peer) {
		c := p.dial(0)
		p.send(c, flipped(11, 0xff))
		p.reply(c, patience)
	}, differs: []string{"closed"}, why: "the stock server waits for more bytes than its own limit allows"},
	{name: "message of another type", play: func(p *peer) {
		c := p.dial(0)
		p.send(c, flipped(6, 7))
		p.reply(c, patience)
	}},
	{name: "line", play: func(p *peer) {
		c := p.dial(0)
		p.send(c, []byte(peerRecord(1)+"\n"))
		p.reply(c, patience)
	}},
	{name: "space is low", keys: map[string]string{"space_left": "99%", "admin_space_left": "1"}, play: func(p *peer) {
		c := p.dial(0)
		warmUp(p, c)
		p.record(c, 50)
	}},
	{name: "suspended", keys: map[string]string{"space_left": "99%", "admin_space_left": "1", "space_left_action": "SUSPEND"}, play: func(p *peer) {
		c := p.dial(0)
		warmUp(p, c)
		p.record(c, 50)
	}},
}

// warmUp sends records until the server has looked at its disk: the stock one does
// so when it has written, and not at once.
func warmUp(p *peer, c net.Conn) {
	quiet := &peer{t: p.t}
	for seq := uint32(1); seq < 20; seq++ {
		quiet.record(c, seq)
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(1500 * time.Millisecond)
	quiet.record(c, 20)
}

var (
	ownHead = regexp.MustCompile(`^(node=\S+ )?type=(DAEMON_\w+) msg=audit\([^)]*\): `)
	ownPort = regexp.MustCompile(` port=\d+ `)
)

// ownRecords are a server's own records about connections, without what differs
// from run to run.
func ownRecords(lines []string) (out []string) {
	for _, line := range lines {
		m := ownHead.FindStringSubmatch(line)
		if m == nil || m[2] != "DAEMON_ACCEPT" && m[2] != "DAEMON_CLOSE" {
			continue
		}
		text := m[2] + " " + strings.TrimPrefix(line, m[0])
		text = ownPort.ReplaceAllString(text, " port=N ")
		out = append(out, strings.ReplaceAll(text, "addr=::ffff:", "addr="))
	}
	return out
}

// atStock plays a case at the stock server.
func atStock(t *testing.T, keys map[string]string, play func(*peer)) (said, own []string) {
	t.Helper()
	a, err := harness.StartAuditdServer(t.TempDir(), keys)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Kill()
	p := &peer{t: t, addr: a.Addr()}
	play(p)
	for _, c := range p.open {
		c.Close()
	}
	harness.Poll(patience, func() bool { return false }) // what it writes of the end
	if err := a.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := a.Wait(time.Minute); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(a.LogFile)
	if err != nil {
		t.Fatal(err)
	}
	return p.said, ownRecords(strings.Split(string(text), "\n"))
}

// atOurs plays it at ours, which is to record as many of its own as the stock one did.
func atOurs(t *testing.T, keys map[string]string, play func(*peer), records int) (said, own []string) {
	t.Helper()
	var text strings.Builder
	for k, v := range keys {
		fmt.Fprintf(&text, "%s = %s\n", k, v)
	}
	file := filepath.Join(t.TempDir(), "collector.conf")
	if err := os.WriteFile(file, []byte(text.String()), 0o640); err != nil {
		t.Fatal(err)
	}
	c, err := harness.LaunchCollector(binaries(t), harness.CollectorOptions{
		Store: t.TempDir() + "/store", Args: []string{"--config", file, "--node", "hub"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Kill()
	// A suspended one is not ready, though it listens.
	if !harness.Poll(time.Minute, func() bool { return strings.Contains(c.Output(), "collector: ready: ") }) {
		t.Fatalf("the collector does not start:\n%s", c.Output())
	}
	p := &peer{t: t, addr: c.Addr()}
	play(p)
	for _, c := range p.open {
		c.Close()
	}
	time.Sleep(patience / 4) // for one too many
	harness.Poll(time.Minute, func() bool {
		r, err := c.Search(time.Minute, "--format", "raw", "-n", "hub")
		if err != nil || r.Code != 0 {
			t.Fatalf("search: %v, exit %d: %s", err, r.Code, r.Stderr)
		}
		own = ownRecords(strings.Split(string(r.Stdout), "\n"))
		return len(own) >= records
	})
	return p.said, own
}

// TestRefusals: the same sender at the stock server and at ours: it is told the
// same, and the same is recorded of it.
func TestRefusals(t *testing.T) {
	binaries(t)
	stockPeers(t)
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wantSaid, wantOwn := atStock(t, c.keys, c.play)
			said, own := atOurs(t, c.keys, c.play, len(wantOwn))
			if c.differs != nil {
				if cmp.Equal(wantSaid, c.differs) {
					t.Errorf("no difference any more (%s): both tell %q", c.why, said)
				}
				wantSaid = c.differs
			}
			if diff := cmp.Diff(wantSaid, said); diff != "" {
				t.Errorf("the sender was told (-stock +ours):\n%s", diff)
			}
			if diff := cmp.Diff(wantOwn, own); diff != "" {
				t.Errorf("recorded (-stock +ours):\n%s", diff)
			}
			t.Logf("told %q, recorded %q", said, own)
		})
	}
}
