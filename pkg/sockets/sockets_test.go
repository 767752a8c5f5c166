package sockets

import (
	"io"
	"os"
	"testing"
)

// What one end writes the other one reads, to its end, and no descriptor is left.
func TestPair(t *testing.T) {
	before := open(t)
	fds, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	a, err := Conn(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	b, err := Conn(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	_ = b.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Conn(int(null.Fd())); err == nil {
		_ = c.Close()
		t.Error("a file is a connection")
	}
	if n := open(t); n != before {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

func open(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
