package psktls

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/auditfleet/auditfleet/internal/need"
)

func TestEnds(t *testing.T) {
	t.Run("close_notify", func(t *testing.T) {
		client, server := pair(t, Config{}, Config{})
		if err := client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := server.Read(make([]byte, 9)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("%d %v", n, err)
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a Write after CloseWrite: %v", err)
		}
		talk(t, server, client)
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := client.Read(make([]byte, 9)); !errors.Is(err, io.EOF) {
			t.Errorf("after Close: %v", err)
		}
		if err := server.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed again: %v", err)
		}
		if _, err := server.Read(make([]byte, 9)); err == nil {
			t.Error("a Read after Close")
		}
		for _, secret := range [][]byte{server.in.secret, server.out.secret} {
			if secret != nil {
				t.Error("a closed connection has its keys")
			}
		}
	})
	t.Run("cut", func(t *testing.T) {
		client, server := pair(t, Config{}, Config{})
		record, _ := client.out.seal(nil, recordApplicationData, []byte("half"))
		_, _ = client.net.Write(record[:9])
		client.net.Close()
		if _, err := server.Read(make([]byte, 9)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
	t.Run("Close breaks off a Write that waits", func(t *testing.T) {
		client, _ := pair(t, Config{}, Config{})
		failed := make(chan error, 1)
		began := make(chan struct{})
		go func() {
			b := make([]byte, 1<<20)
			close(began)
			for {
				if _, err := client.Write(b); err != nil {
					failed <- err
					return
				}
			}
		}()
		<-began
		need.Wait(t, "the Write to wait", func() bool {
			if client.out.mu.TryLock() {
				client.out.mu.Unlock()
				return false
			}
			return true
		})
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; err == nil {
			t.Error("it has written")
		}
	})
	t.Run("a context ends a handshake", func(t *testing.T) {
		a, _ := link(t)
		ctx, cancel := context.WithCancel(context.Background())
		client := Client(a, withKey(Config{}))
		done := make(chan error, 1)
		go func() { done <- client.Handshake(ctx) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("a deadline ends a handshake", func(t *testing.T) {
		_, b := link(t)
		_ = b.SetDeadline(time.Now().Add(time.Millisecond))
		if err := Server(b, withKey(Config{})).Handshake(context.Background()); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	})
	t.Run("nothing to work with", func(t *testing.T) {
		for name, end := range map[string]*Conn{
			"no config":   Client(&replayed{}, nil),
			"no identity": Client(&replayed{}, &Config{Key: testKey}),
			"a short key": Client(&replayed{}, &Config{Identity: "a", Key: testKey[:31]}),
			"no lookup":   Server(&replayed{}, &Config{}),
			"no suite":    Client(&replayed{}, &Config{Identity: "a", Key: testKey, Suites: []Suite{7}}),
			"no group":    Client(&replayed{}, &Config{Identity: "a", Key: testKey, Groups: []Group{7}}),
			"no pqc":      Client(&replayed{}, &Config{Identity: "a", Key: testKey, Groups: []Group{X25519}, RequirePQC: true}),
		} {
			if err := end.Handshake(context.Background()); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
	t.Run("a server that fails for a reason of its own", func(t *testing.T) {
		for name, change := range map[string]func(*Config){
			"no lookup": func(c *Config) { c.Lookup = nil },
			"no random": func(c *Config) { c.random = strings.NewReader("few") },
			"no suite":  func(c *Config) { c.Suites = []Suite{7} },
		} {
			a, b := link(t)
			config := withKey(Config{})
			change(config)
			cerr, serr := shake(Client(a, withKey(Config{})), Server(b, config))
			var peer *PeerAlert
			if !errors.As(cerr, &peer) || peer.Alert != AlertInternalError || serr == nil || errors.As(serr, &peer) {
				t.Errorf("%s: client %v, server %v", name, cerr, serr)
			}
		}
	})
	t.Run("a short key on the server", func(t *testing.T) {
		a, b := link(t)
		_, err := shake(Client(a, withKey(Config{})), Server(b, withKey(Config{Lookup: func(string) ([]byte, error) { return testKey[:31], nil }})))
		var local *LocalAlert
		if !errors.As(err, &local) || local.Alert != AlertDecryptError || !strings.Contains(err.Error(), "31 bytes long") {
			t.Error(err)
		}
	})
}

// choppy cuts and delays what is read: some reads time out, others bring a few bytes.
type choppy struct {
	net.Conn
	rand *rand.Rand
}

func (c choppy) Read(b []byte) (int, error) {
	if c.rand.IntN(4) == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return c.Conn.Read(b[:min(len(b), 1+c.rand.IntN(1+c.rand.IntN(20000)))])
}

// TestAnyCutsGiveTheSameBytes: however writes are sized, the network cuts them, reads time
// out and keys are renewed, what is read is what was written.
func TestAnyCutsGiveTheSameBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		config := Config{Groups: []Group{X25519}, Suites: []Suite{rapid.SampledFrom(DefaultSuites()).Draw(rt, "suite")}}
		client, server := pair(t, config, config)
		defer client.Close()
		defer server.Close()
		client.out.renewal = rapid.Uint64Range(1, 50).Draw(rt, "renewal")
		dice := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		server.net = choppy{server.net, dice}
		sizes := rapid.SliceOfN(rapid.IntRange(0, 40000), 1, 6).Draw(rt, "sizes")
		var sent []byte
		for i := range sizes {
			sent = append(sent, bytes.Repeat([]byte{byte(i), byte(i + 7), 3}, sizes[i]/3)...)
		}
		done := make(chan error, 1)
		go func() {
			at := 0
			for _, size := range sizes {
				n, err := client.Write(sent[at : at+size/3*3])
				if at += n; err != nil {
					done <- err
					return
				}
			}
			done <- client.CloseWrite()
		}()
		var got []byte
		buf := make([]byte, 1+dice.IntN(30000))
		for {
			n, err := server.Read(buf[:1+dice.IntN(len(buf))])
			got = append(got, buf[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				rt.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(got, sent) {
			rt.Fatalf("%d bytes were written, %d others read", len(sent), len(got))
		}
	})
}

// A peer that says in place of its hello that it was told to stop, again and again, is given up:
// each of these alerts is followed by a close, not by more of them.
func TestAlertsForEver(t *testing.T) {
	for name, end := range map[string]func(net.Conn) *Conn{
		"client": func(c net.Conn) *Conn { return Client(c, &Config{Identity: "web1", Key: make([]byte, MinKey)}) },
		"server": func(c net.Conn) *Conn {
			return Server(c, &Config{Lookup: func(string) ([]byte, error) { return make([]byte, MinKey), nil }})
		},
	} {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, far) }()
		go func() {
			for {
				if _, err := far.Write([]byte{recordAlert, 3, 3, 0, 2, 1, byte(AlertUserCanceled)}); err != nil {
					return
				}
			}
		}()
		err := end(near).Handshake(t.Context())
		if err == nil || !strings.Contains(err.Error(), "bring nothing") {
			t.Errorf("%s: %v", name, err)
		}
		_ = near.Close()
		_ = far.Close()
	}
}
