package psktls

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/auditfleet/auditfleet/internal/need"
)

// TestEverythingAtOnce has both ends write and read from several goroutines, ask for new keys
// and close in the middle: under the race detector nothing is touched twice, and all end.
func TestEverythingAtOnce(t *testing.T) {
	for range need.Rounds(20, 5) {
		client, server := pair(t, Config{}, Config{})
		client.out.renewal, server.out.renewal = 7, 11
		var all sync.WaitGroup
		for _, c := range []*Conn{client, server} {
			for range 2 {
				all.Go(func() {
					for {
						if _, err := c.Write(make([]byte, 700)); err != nil {
							return
						}
					}
				})
				all.Go(func() {
					buf := make([]byte, 999)
					for {
						if _, err := c.Read(buf); err != nil {
							return
						}
						c.owed.Store(true)
						_ = c.ConnectionState()
						_ = c.Handshake(context.Background())
					}
				})
			}
		}
		all.Go(func() {
			_, _ = client.Read(make([]byte, 10000))
			_ = client.Close()
			_ = server.Close()
		})
		all.Wait()
	}
}

// TestCloseEndsAHandshake: whoever waits for a peer that says nothing is woken.
func TestCloseEndsAHandshake(t *testing.T) {
	for name, end := range map[string]func(net.Conn, *Config) *Conn{"client": Client, "server": Server} {
		a, _ := link(t)
		c := end(a, withKey(Config{}))
		done := make(chan error, 2)
		go func() { done <- c.Handshake(context.Background()) }()
		go func() { _, err := c.Read(make([]byte, 1)); done <- err }()
		need.Wait(t, "the handshake to begin", func() bool {
			if c.hand.mu.TryLock() {
				c.hand.mu.Unlock()
				return false
			}
			return true
		})
		if err := c.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for range 2 {
			if err := <-done; err == nil {
				t.Errorf("%s: it has shaken hands with nobody", name)
			}
		}
	}
}

// TestAPeerThatReadsNothing: what is due to it (an alert, a goodbye) keeps nobody for long,
// and a flood of requests for new keys is one answer.
func TestAPeerThatReadsNothing(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	full := make(chan struct{})
	go func() {
		defer close(full)
		b := make([]byte, 64<<10)
		for {
			if _, err := server.Write(b); err != nil {
				return
			}
		}
	}()
	need.Wait(t, "the Write to wait", func() bool { return !server.out.mu.TryLock() || unlock(&server.out.mu) })
	for range maxQuiet {
		client.inject(t, recordHandshake, messageKeyUpdate, 0, 0, 1, 1)
		if err := client.out.update(); err != nil {
			t.Fatal(err)
		}
	}
	client.inject(t, recordApplicationData, 'x')
	got := make([]byte, 1)
	if _, err := io.ReadFull(server, got); err != nil || got[0] != 'x' {
		t.Fatalf("a Read waits for a Write: %q %v", got, err)
	}
	client.inject(t, recordHandshake, 99, 0, 0, 0)
	var local *LocalAlert
	if _, err := server.Read(got); !errors.As(err, &local) {
		t.Error(err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	<-full
}

// unlock gives a lock back that was had, which is not what was waited for.
func unlock(mu *sync.Mutex) bool {
	mu.Unlock()
	return false
}

// BenchmarkRefusal shows that who is refused can't be told by the time it takes: run it with
// -count and compare.
func BenchmarkRefusal(b *testing.B) {
	for name, who := range map[string]struct {
		identity string
		key      byte
	}{"unknown": {"host-9", 0x5a}, "disabled": {"host-2", 0x5a}, "wrong key": {"host-1", 1}} {
		choices, err := withKey(Config{Groups: []Group{X25519}}).choices()
		if err != nil {
			b.Fatal(err)
		}
		out := &replayed{in: bytes.NewReader(nil)}
		c := Client(out, withKey(Config{Identity: who.identity, Key: bytes.Repeat([]byte{who.key}, 32)}))
		h := &clientShake{handshake: c.newHandshake(choices)}
		h.schedule = newSchedule(choices.hash, c.config.Key)
		if err := h.greet(); err != nil {
			b.Fatal(err)
		}
		hello := out.out.Bytes()
		config := withKey(Config{})
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var local *LocalAlert
				if err := Server(&replayed{in: bytes.NewReader(hello)}, config).Handshake(context.Background()); !errors.As(err, &local) || local.Alert != AlertDecryptError {
					b.Fatal(err)
				}
			}
		})
	}
}
