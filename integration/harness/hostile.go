package harness

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/auditfleet/auditfleet/proto/remote"
)

// Hostile is a number of connections that attack a server, each from a loopback address
// of its own. One thread serves them in turn with system calls that do not block, so the
// attack uses at most one core of the machine.
type Hostile struct {
	Addr   netip.AddrPort
	Conns  int
	Attack string // of Attacks
	// Rate limits the bytes sent in a second, as a network does; 0 sets no limit.
	Rate int64

	sent    int64 // bytes
	began   time.Time
	peers   []*hostilePeer
	do      func(p *hostilePeer)
	block   []byte // what a visit sends
	in      []byte
	pass    int
	writes  atomic.Int64
	renewed atomic.Int64
}

// hostilePeer is one of its connections.
type hostilePeer struct {
	fd   int // -1 when there is none
	from netip.Addr
	at   int // bytes of what it sends that are sent
	last time.Time
}

// attack is what each connection does at a visit, with what.
type attack struct {
	name  string
	block func() []byte
	do    func(h *Hostile, p *hostilePeer)
}

// attacks are the ways to be a bad peer.
var attacks = []attack{
	{"idle", nil, func(*Hostile, *hostilePeer) {}},
	{"bytes", func() []byte { return evilRecord(1) }, (*Hostile).oneByte},
	{"half-frames", func() []byte { return evilRecord(1)[:60] }, (*Hostile).once},
	{"half-lines", func() []byte { return bytes.Repeat([]byte("x"), 8000) }, (*Hostile).once},
	{"empty", func() []byte { return evilFrames(256, remote.Message, "") }, (*Hostile).flood},
	{"lines", func() []byte { return bytes.Repeat([]byte("a\n"), 2048) }, (*Hostile).flood},
	{"empty-lines", func() []byte { return bytes.Repeat([]byte("\n"), 4096) }, (*Hostile).flood},
	{"garbage", func() []byte { return bytes.Repeat([]byte{0xfe, 0, 0, 0xff, 9}, 100) }, (*Hostile).again},
	{"knocks", nil, (*Hostile).knock},
	{"heartbeats", func() []byte { return evilFrames(256, remote.Heartbeat, "") }, (*Hostile).flood},
	{"unread-heartbeats", func() []byte { return evilFrames(256, remote.Heartbeat, "") }, (*Hostile).unread},
	{"unread-records", func() []byte { return bytes.Repeat(evilRecord(1), 64) }, (*Hostile).unread},
	{"slow-readers", func() []byte { return evilFrames(256, remote.Heartbeat, "") }, (*Hostile).slowRead},
	{"small-bursts", func() []byte { return bytes.Repeat(evilRecord(1), 8) }, (*Hostile).burst},
	{"records", func() []byte { return bytes.Repeat(evilRecord(1), 16) }, (*Hostile).flood},
}

// Attacks returns the names of the attacks.
func Attacks() (names []string) {
	for _, a := range attacks {
		names = append(names, a.name)
	}
	return names
}

func evilRecord(seq uint32) []byte {
	text := "node=evil type=USER_CMD msg=audit(1795336201.121:402): pid=2133 uid=0 auid=1000 ses=3 msg='cwd=\"/\" cmd=6C73 res=success'"
	return remote.Append(nil, remote.Message, seq, []byte(text))
}

func evilFrames(n int, t remote.Type, text string) (out []byte) {
	for i := range n {
		out = remote.Append(out, t, uint32(i), []byte(text))
	}
	return out
}

// RaiseDescriptors raises the number of files that this process and its children may open
// to n.
func RaiseDescriptors(n uint64) error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return err
	}
	if r.Cur >= n {
		return nil
	}
	r.Cur, r.Max = n, max(r.Max, n)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", n, err)
	}
	return nil
}

// Connect opens all connections.
func (h *Hostile) Connect() error {
	i := slices.IndexFunc(attacks, func(a attack) bool { return a.name == h.Attack })
	if i < 0 {
		return fmt.Errorf("there is no attack %q, but %v", h.Attack, Attacks())
	}
	if attacks[i].block != nil {
		h.block = attacks[i].block()
	}
	h.do = func(p *hostilePeer) { attacks[i].do(h, p) }
	h.in = make([]byte, 64<<10)
	for i := range h.Conns {
		p := &hostilePeer{fd: -1, from: netip.AddrFrom4([4]byte{127, byte(2 + i/62500), byte(i / 250 % 250), byte(1 + i%250)})}
		h.peers = append(h.peers, p)
		if err := h.renew(p, 0); err != nil {
			h.Close()
			return fmt.Errorf("hostile connection %d of %d: %w", i+1, h.Conns, err)
		}
	}
	h.renewed.Store(0)
	return nil
}

// renew connects p anew. With SOCK_NONBLOCK it does not wait for that.
func (h *Hostile) renew(p *hostilePeer, flags int) error {
	h.drop(p)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return err
	}
	p.fd, p.at, p.last = fd, 0, time.Now()
	h.renewed.Add(1)
	// What is not read yet is to lie at the server, not here: both share this machine's
	// memory for TCP.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 8<<10)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: p.from.As4()}); err != nil {
		return err
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(h.Addr.Port()), Addr: h.Addr.Addr().As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	return unix.SetNonblock(fd, true)
}

func (h *Hostile) drop(p *hostilePeer) {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// Run attacks until stop is closed.
func (h *Hostile) Run(stop <-chan struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h.began, h.sent = time.Now(), 0
	for ; ; h.pass++ {
		before := h.writes.Load() + h.renewed.Load()
		for i, p := range h.peers {
			if i%16 == 0 {
				select {
				case <-stop:
					return
				default:
				}
				h.throttle()
			}
			if p.fd < 0 {
				_ = h.renew(p, unix.SOCK_NONBLOCK) // out of ports or refused: the next pass
				continue
			}
			h.do(p)
		}
		if h.writes.Load()+h.renewed.Load() == before {
			time.Sleep(time.Millisecond) // nothing was to be done for anybody
		}
	}
}

// throttle waits until what was sent is what Rate allows.
func (h *Hostile) throttle() {
	if h.Rate > 0 {
		time.Sleep(time.Duration(float64(h.sent)/float64(h.Rate)*float64(time.Second)) - time.Since(h.began))
	}
}

// Close drops all connections.
func (h *Hostile) Close() {
	for _, p := range h.peers {
		h.drop(p)
	}
}

// Did returns the number of writes that succeeded and the number of times that a
// connection was made again.
func (h *Hostile) Did() (writes, renewed int64) { return h.writes.Load(), h.renewed.Load() }

// wrote counts a write.
func (h *Hostile) wrote(n int) {
	h.writes.Add(1)
	h.sent += int64(n)
}

// write sends on what is left of b, from p.at on, and renews a connection that is over.
func (h *Hostile) write(p *hostilePeer, b []byte) {
	n, err := unix.Write(p.fd, b[p.at:])
	switch {
	case err == nil:
		h.wrote(n)
		p.at = (p.at + n) % len(b)
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.ENOTCONN):
	default:
		h.drop(p)
	}
}

// read takes what replies there are, limit bytes at most, and says whether the
// connection is over.
func (h *Hostile) read(p *hostilePeer, limit int) (over bool) {
	if p.fd < 0 {
		return true
	}
	n, err := unix.Read(p.fd, h.in[:min(limit, len(h.in))])
	if err == nil && n == 0 || err != nil && !errors.Is(err, unix.EAGAIN) {
		h.drop(p)
		return true
	}
	return false
}

func (h *Hostile) flood(p *hostilePeer) {
	h.write(p, h.block)
	h.read(p, len(h.in))
}

func (h *Hostile) unread(p *hostilePeer) { h.write(p, h.block) }

func (h *Hostile) slowRead(p *hostilePeer) {
	h.write(p, h.block)
	if p.fd >= 0 && time.Since(p.last) >= time.Second {
		p.last = time.Now()
		h.read(p, 1)
	}
}

// burst sends a few records, as a host does that something happens on, three times a second.
func (h *Hostile) burst(p *hostilePeer) {
	if time.Since(p.last) >= 330*time.Millisecond {
		p.last = time.Now()
		h.flood(p)
	}
}

// oneByte sends the next byte of a record.
func (h *Hostile) oneByte(p *hostilePeer) {
	if p.at == 0 {
		h.read(p, len(h.in))
	}
	if p.fd < 0 {
		return
	}
	if _, err := unix.Write(p.fd, h.block[p.at:p.at+1]); err == nil {
		h.wrote(1)
		p.at = (p.at + 1) % len(h.block)
	}
}

// once sends its block and then nothing until it is closed.
func (h *Hostile) once(p *hostilePeer) {
	if p.at < len(h.block) {
		if n, err := unix.Write(p.fd, h.block[p.at:]); err == nil {
			h.wrote(n)
			p.at += n
		}
		return
	}
	if h.pass%100 == 0 {
		h.read(p, len(h.in))
	}
}

// again sends its block, is closed for it, and comes back.
func (h *Hostile) again(p *hostilePeer) {
	h.once(p)
	h.read(p, len(h.in))
}

// knock connects and is gone.
func (h *Hostile) knock(p *hostilePeer) { _ = h.renew(p, unix.SOCK_NONBLOCK) }
