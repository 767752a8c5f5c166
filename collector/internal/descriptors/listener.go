package descriptors

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// limited is a listener that bounds how many connections are open at a time.
type limited struct {
	net.Listener
	free   chan struct{} // has an element for each open connection, and for Accept's next
	closed chan struct{}
	once   sync.Once // closes closed
}

// Limit returns a listener of which no more than n connections are open at a time. Others
// wait in the kernel's queue to be accepted. It owns ln: closing it closes ln, and not the
// connections.
func Limit(ln net.Listener, n int) net.Listener {
	return &limited{Listener: ln, free: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits until fewer than n connections are open, and then for one.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &limitedConn{Conn: c, l: l}, nil
}

// Close ends Accept, also one that waits for a connection to be closed.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn is a connection that makes room for another when it is closed.
type limitedConn struct {
	net.Conn
	l    *limited
	once sync.Once
}

// SyscallConn gives access to the socket: the kernel says by it who calls the query API.
func (c *limitedConn) SyscallConn() (syscall.RawConn, error) {
	inner, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return inner.SyscallConn()
}

// Close closes the connection, and makes room once, however often it is called.
func (c *limitedConn) Close() error {
	c.once.Do(func() { <-c.l.free })
	return c.Conn.Close()
}
