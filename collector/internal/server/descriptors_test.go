package server

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/collector/internal/listen"
	"github.com/auditfleet/auditfleet/collector/internal/store/storetest"
	"github.com/auditfleet/auditfleet/internal/need"
)

// A listener has so many connections open, and more when some are closed.
func TestLimitOpen(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := limitOpen(inner, 2)
	conns := make(chan net.Conn)
	done := make(chan error, 1)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				done <- err
				return
			}
			conns <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-conns, <-conns
	select {
	case <-conns:
		t.Fatal("a third is open")
	case <-time.After(20 * time.Millisecond):
	}
	first.Close()
	first.Close() // makes room once
	third := <-conns
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("Accept after Close: no error")
	}
	second.Close()
	third.Close()
}

// What is left of the limit of open files bounds the connections, and is said.
func TestBound(t *testing.T) {
	files, err := descriptors()
	if err != nil {
		t.Fatal(err)
	}
	var log need.Buffer
	s := &Server{cfg: Config{Log: hclog.New(&hclog.LoggerOptions{Output: &log})}, listen: &listen.Listener{}, store: storetest.NewReference()}
	small, large := listen.Limits{MaxConns: 3}, listen.Limits{MaxConns: 1 << 30}
	if err := s.bound(&small); err != nil || small.MaxConns != 3 {
		t.Errorf("%+v, %v: a limit that is low enough stays", small, err)
	}
	if err := s.bound(&large); err != nil || large.MaxConns >= files-keepLeast || large.MaxConns < 1 {
		t.Errorf("%+v, %v: of %d files, at least %d are kept", large, err, files, keepLeast)
	}
	if out := log.String(); !strings.Contains(out, "connections are bounded: max_connections=3") || strings.Count(out, "fewer connections than max_connections") != 1 {
		t.Errorf("said:\n%s", out)
	}
}
