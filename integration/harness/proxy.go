package harness

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy is a link with delay between clients and a server: in each direction every byte
// arrives in order and Delay after it was sent, at any bandwidth. Tests can cut the link
// or make it deliver nothing. Any goroutine may call its methods.
//
// mu guards hold, links and shut. hold is nil while the link delivers; during a BlackHole
// it is a channel on which all directions wait and which Resume closes. Close leaves no
// connection behind: it sets shut before it closes the links, so a client that accept has
// just connected either is in links and is closed with the others, or finds shut set and
// is closed by accept. workers counts accept and every serve; accept adds a serve while
// it is counted itself, so Close's Wait cannot miss one.
type Proxy struct {
	listener net.Listener
	target   atomic.Pointer[string]
	delay    atomic.Int64 // nanoseconds one way
	rate     atomic.Int64 // bytes a second in each direction of a connection; 0: any

	mu    sync.Mutex // guards what follows
	hold  chan struct{}
	links map[*link]bool
	shut  bool

	workers sync.WaitGroup
	passed  atomic.Int64 // bytes client → server
}

// link is one client's connection and its continuation to the server.
type link struct {
	client, server net.Conn
	dead           chan struct{}
	once           sync.Once
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.dead)
		l.client.Close()
		l.server.Close()
	})
}

// chunk is what one read brought, and when it is due.
type chunk struct {
	due  time.Time
	data []byte
}

// proxyQueue bounds what is under way in one direction: chunks of up to 64 KiB.
const proxyQueue = 4096

// NewProxy listens on a loopback port and passes everything on to target, each
// way delayed by oneWay.
func NewProxy(target string, oneWay time.Duration) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, links: map[*link]bool{}}
	p.target.Store(&target)
	p.delay.Store(int64(oneWay))
	p.workers.Add(1)
	go p.accept()
	return p, nil
}

// Addr returns the address to which clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port returns the port of Addr.
func (p *Proxy) Port() int { return p.listener.Addr().(*net.TCPAddr).Port }

// SetTarget has connections from now on passed to another server.
func (p *Proxy) SetTarget(target string) { p.target.Store(&target) }

// SetRate bounds the bytes a second in each direction of a connection; 0: not at all.
func (p *Proxy) SetRate(bytes int64) { p.rate.Store(bytes) }

// Passed returns the number of bytes that went from clients to the server.
func (p *Proxy) Passed() int64 { return p.passed.Load() }

// Cut resets every present connection. The proxy continues to accept new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		for _, c := range []net.Conn{l.client, l.server} {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
		}
		l.close()
	}
}

// BlackHole stops delivery in both directions until Resume, without closing a connection.
// Bytes that are sent in the meantime are delivered after Resume.
func (p *Proxy) BlackHole() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold == nil {
		p.hold = make(chan struct{})
	}
}

// Resume ends BlackHole.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold != nil {
		close(p.hold)
		p.hold = nil
	}
}

// Close closes all connections and waits for every goroutine to end.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.shut = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Resume()
	p.Cut()
	p.workers.Wait()
	return err
}

func (p *Proxy) accept() {
	defer p.workers.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		server, err := net.DialTimeout("tcp", *p.target.Load(), time.Minute)
		if err != nil {
			client.Close()
			continue
		}
		l := &link{client: client, server: server, dead: make(chan struct{})}
		p.mu.Lock()
		if p.shut {
			p.mu.Unlock()
			l.close()
			return
		}
		p.links[l] = true
		p.mu.Unlock()
		p.workers.Add(1)
		go p.serve(l)
	}
}

func (p *Proxy) serve(l *link) {
	defer p.workers.Done()
	var both sync.WaitGroup
	both.Add(2)
	go func() { defer both.Done(); p.pass(l, l.server, l.client, &p.passed) }()
	go func() { defer both.Done(); p.pass(l, l.client, l.server, nil) }()
	both.Wait()
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pass moves bytes from src to dst; the end of src closes that direction only,
// also after the delay.
func (p *Proxy) pass(l *link, dst, src net.Conn, count *atomic.Int64) {
	queue := make(chan chunk, proxyQueue)
	var reader sync.WaitGroup
	reader.Add(1)
	go func() {
		defer reader.Done()
		defer close(queue)
		for {
			buf := make([]byte, 64<<10)
			rate := p.rate.Load()
			if rate > 0 {
				buf = buf[:4<<10]
			}
			n, err := src.Read(buf)
			if rate > 0 && !p.wait(l, time.Now().Add(time.Duration(int64(n)*int64(time.Second)/rate))) {
				return
			}
			if n > 0 {
				select {
				case queue <- chunk{time.Now().Add(time.Duration(p.delay.Load())), buf[:n:n]}:
				case <-l.dead:
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					l.close()
				}
				return
			}
		}
	}()
	defer reader.Wait()
	for c := range queue {
		if !p.wait(l, c.due) {
			continue
		}
		if _, err := dst.Write(c.data); err != nil {
			l.close()
			continue
		}
		if count != nil {
			count.Add(int64(len(c.data)))
		}
	}
	if p.wait(l, time.Now().Add(time.Duration(p.delay.Load()))) {
		if tcp, ok := dst.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}
}

// wait returns true when due has come and nothing holds the link back, false
// when the link is dead.
func (p *Proxy) wait(l *link, due time.Time) bool {
	if d := time.Until(due); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.dead:
			return false
		}
	}
	for {
		p.mu.Lock()
		hold := p.hold
		p.mu.Unlock()
		if hold == nil {
			select {
			case <-l.dead:
				return false
			default:
				return true
			}
		}
		select {
		case <-hold:
		case <-l.dead:
			return false
		}
	}
}
