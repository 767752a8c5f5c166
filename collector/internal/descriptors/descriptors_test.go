package descriptors

import (
	"fmt"
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

// What is left of the limit of open files bounds the connections, however many files each
// takes, and connections are what is said.
func TestForSenders(t *testing.T) {
	limit, err := raiseLimit()
	if err != nil {
		t.Fatal(err)
	}
	var out need.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out})
	of := func(asked int, each ...int) (list []Listener) {
		for i, n := range each {
			list = append(list, Listener{[]string{"listen", "listen_tls"}[i], asked, n})
		}
		return list
	}
	if n, err := ForSenders(of(3, 4), 0, log); err != nil || n[0] != 3 {
		t.Errorf("%d, %v: a number that is low enough stays", n, err)
	}
	n, err := ForSenders(of(1<<30, 1), 0, log)
	if err != nil || n[0] >= limit-keepLeast || n[0] < 1 {
		t.Fatalf("%d, %v: of %d files, at least %d are kept", n, err, limit, keepLeast)
	}
	if fewer, err := ForSenders(of(1<<30, 1), 10, log); err != nil || fewer[0] != n[0]-10 {
		t.Errorf("%d, %v: others may open 10, %d were left without them", fewer, err, n)
	}
	both, err := ForSenders(of(1<<30, 1, 4), 0, log)
	if err != nil || both[0] != n[0]/2 || both[1] != n[0]/2/4 {
		t.Errorf("%d, %v: of %d files", both, err, n)
	}
	for _, want := range []string{"connections are bounded: max_connections=3 ", fmt.Sprintf("fewer connections than max_connections: the limit of open files leaves no more; raise it (LimitNOFILE= in the unit, ulimit -n) or lower max_connections: max_connections=%d ", n[0]),
		fmt.Sprintf("max_connections=\"listen %d, listen_tls %d\"", both[0], both[1])} {
		if out := out.String(); !strings.Contains(out, want) {
			t.Errorf("%s: said\n%s", want, out)
		}
	}
	if _, err := ForSenders(of(3, 4), limit, log); err == nil || !strings.Contains(err.Error(), "LimitNOFILE=") {
		t.Errorf("others need all: %v", err)
	}
}
