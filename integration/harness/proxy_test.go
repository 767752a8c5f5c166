package harness

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// echo answers every byte.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dialProxy(t *testing.T, oneWay time.Duration) (*Proxy, net.Conn) {
	t.Helper()
	p, err := NewProxy(echo(t), oneWay)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return p, c
}

func TestProxyDelaysAndKeepsBytes(t *testing.T) {
	_, c := dialProxy(t, 25*time.Millisecond)
	for range 3 {
		begin := time.Now()
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		if rtt := time.Since(begin); rtt < 50*time.Millisecond {
			t.Errorf("round trip took %v, less than twice 25ms", rtt)
		}
	}
	data := make([]byte, 8<<20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(data)
	sum := sha256.New()
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyN(sum, c, int64(len(data)))
		done <- err
	}()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(data)
	if !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Error("the bytes changed on their way")
	}
}

// The delay does not limit the bandwidth: much is under way at once.
func TestProxyTakesWhileItDelays(t *testing.T) {
	_, c := dialProxy(t, time.Hour)
	_ = c.SetWriteDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(make([]byte, 64<<20)); err != nil { // more than sockets hold
		t.Error(err)
	}
}

func TestProxyBlackHoleHoldsAndResumes(t *testing.T) {
	p, c := dialProxy(t, 0)
	p.BlackHole()
	if _, err := c.Write([]byte("held")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := c.Read(make([]byte, 4)); err == nil {
		t.Fatalf("%d bytes came through the black hole", n)
	}
	p.Resume()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "held" {
		t.Fatalf("after resuming: %q, %v", got, err)
	}
}

func TestProxyCutEndsConnectionsOnly(t *testing.T) {
	p, c := dialProxy(t, 0)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("still connected after the cut")
	}
	again, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(again, make([]byte, 1)); err != nil {
		t.Fatalf("a new connection after the cut: %v", err)
	}
}
