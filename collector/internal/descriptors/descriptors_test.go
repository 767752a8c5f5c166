package descriptors

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/auditfleet/auditfleet/internal/need"
)

// A listener has so many connections open, and more when some are closed.
func TestLimitOpen(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := Limit(inner, 2)
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
func TestForSenders(t *testing.T) {
	limit, err := raiseLimit()
	if err != nil {
		t.Fatal(err)
	}
	var out need.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out})
	if n, err := ForSenders(3, 0, log); err != nil || n != 3 {
		t.Errorf("%d, %v: a number that is low enough stays", n, err)
	}
	n, err := ForSenders(1<<30, 0, log)
	if err != nil || n >= limit-keepLeast || n < 1 {
		t.Errorf("%d, %v: of %d files, at least %d are kept", n, err, limit, keepLeast)
	}
	if fewer, err := ForSenders(1<<30, 10, log); err != nil || fewer != n-10 {
		t.Errorf("%d, %v: others may open 10, %d were left without them", fewer, err, n)
	}
	if out := out.String(); !strings.Contains(out, "connections are bounded: max_connections=3") || strings.Count(out, "fewer connections than max_connections") != 2 {
		t.Errorf("said:\n%s", out)
	}
	if _, err := ForSenders(3, limit, log); err == nil || !strings.Contains(err.Error(), "LimitNOFILE=") {
		t.Errorf("others need all: %v", err)
	}
}
