package psktls

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testKey = bytes.Repeat([]byte{0x5a}, 32)

// only knows host-1, and that host-2 is disabled.
func only(identity string) ([]byte, error) {
	switch identity {
	case "host-1":
		return testKey, nil
	case "host-2":
		return nil, ErrDisabledIdentity
	}
	return nil, ErrUnknownIdentity
}

// link is a TCP connection on loopback, both ends.
func link(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, server} {
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

// shake makes both ends shake hands and returns how that went for each.
func shake(client, server *Conn) (clientErr, serverErr error) {
	done := make(chan error, 1)
	go func() { done <- server.Handshake(context.Background()) }()
	clientErr = client.Handshake(context.Background())
	if clientErr != nil {
		client.Close()
	}
	return clientErr, <-done
}

// pair is two ends that have shaken hands.
func pair(t testing.TB, client, server Config) (*Conn, *Conn) {
	t.Helper()
	a, b := link(t)
	c, s := Client(a, withKey(client)), Server(b, withKey(server))
	if cerr, serr := shake(c, s); cerr != nil || serr != nil {
		t.Fatalf("client: %v; server: %v", cerr, serr)
	}
	return c, s
}

// withKey fills in what a test does not care about.
func withKey(c Config) *Config {
	if c.Identity == "" {
		c.Identity = "host-1"
	}
	if c.Key == nil {
		c.Key = testKey
	}
	if c.Lookup == nil {
		c.Lookup = only
	}
	return &c
}

func TestEachSuiteAndGroup(t *testing.T) {
	for _, suite := range suites {
		for _, x := range exchanges {
			t.Run(suite.name+" "+x.name, func(t *testing.T) {
				config := Config{Suites: []Suite{suite.suite}, Groups: []Group{x.group}}
				client, server := pair(t, config, config)
				want := ConnectionState{Identity: "host-1", Suite: suite.suite, Group: x.group}
				if got := client.ConnectionState(); got != want {
					t.Errorf("the client has %+v, want %+v", got, want)
				}
				if got := server.ConnectionState(); got != want {
					t.Errorf("the server has %+v, want %+v", got, want)
				}
				talk(t, client, server)
				talk(t, server, client)
			})
		}
	}
}

// talk writes something from one end and reads it at the other.
func talk(t testing.TB, from, to *Conn) {
	t.Helper()
	text := []byte("type=USER msg=audit(1.000:1): hello")
	if n, err := from.Write(text); n != len(text) || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, text) {
		t.Fatalf("%q %v", got, err)
	}
}

func TestGroupsAreChosen(t *testing.T) {
	for _, tt := range []struct {
		name           string
		client, server []Group
		want           Group
		retried        bool
	}{
		{"both compatible", nil, nil, X25519MLKEM768, false},
		{"a client before ML-KEM", []Group{X25519}, nil, X25519, false},
		{"a server before ML-KEM needs no second hello", nil, []Group{X25519}, X25519, false},
		{"a curve of which there was no share", []Group{X25519, P256}, []Group{P256}, P256, true},
		{"ML-KEM is worth a second hello", []Group{X25519, X25519MLKEM768}, nil, X25519MLKEM768, true},
		{"another curve is not", []Group{X25519, P256}, []Group{P256, X25519}, X25519, false},
		{"pqc with compatible", PQCGroups(), nil, X25519MLKEM768, false},
		{"pure", []Group{MLKEM1024}, []Group{MLKEM768, MLKEM1024}, MLKEM1024, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := pair(t, Config{Groups: tt.client}, Config{Groups: tt.server})
			want := ConnectionState{Identity: "host-1", Suite: AES128GCM, Group: tt.want, Retried: tt.retried}
			if got := client.ConnectionState(); got != want {
				t.Errorf("the client has %+v, want %+v", got, want)
			}
			if got := server.ConnectionState(); got != want {
				t.Errorf("the server has %+v, want %+v", got, want)
			}
			talk(t, client, server)
		})
	}
}

// TestPQCIsKept: under RequirePQC a group without ML-KEM is neither offered nor taken,
// whatever the list has.
func TestPQCIsKept(t *testing.T) {
	mixed := Config{Groups: []Group{X25519, P256, X25519MLKEM768}, RequirePQC: true}
	for _, other := range []Config{{Groups: []Group{X25519, X25519MLKEM768}}, mixed} {
		for _, ends := range [][2]Config{{mixed, other}, {other, mixed}} {
			client, _ := pair(t, ends[0], ends[1])
			if got := client.ConnectionState().Group; got != X25519MLKEM768 {
				t.Errorf("%v and %v agree on %v", ends[0].Groups, ends[1].Groups, got)
			}
		}
	}
}

func TestWhoIsRefused(t *testing.T) {
	other := bytes.Repeat([]byte{1}, 32)
	for _, tt := range []struct {
		name           string
		client, server Config
		alert          Alert
		reason         error
	}{
		{"unknown", Config{Identity: "host-9"}, Config{}, AlertDecryptError, ErrUnknownIdentity},
		{"disabled", Config{Identity: "host-2"}, Config{}, AlertDecryptError, ErrDisabledIdentity},
		{"wrong key", Config{Key: other}, Config{}, AlertDecryptError, ErrWrongKey},
		{"a key of another hash", Config{Suites: []Suite{AES256GCM}}, Config{}, AlertHandshakeFailure, nil},
		{"no group in common", Config{Groups: []Group{P384}}, Config{}, AlertHandshakeFailure, nil},
		{"pqc asked for", Config{Groups: []Group{X25519}}, Config{RequirePQC: true}, AlertHandshakeFailure, ErrNotPQC},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := link(t)
			client, server := Client(a, withKey(tt.client)), Server(b, withKey(tt.server))
			cerr, serr := shake(client, server)
			var peer *PeerAlert
			if !errors.As(cerr, &peer) || peer.Alert != tt.alert {
				t.Errorf("the client got %v, want %v", cerr, tt.alert)
			}
			var local *LocalAlert
			if !errors.As(serr, &local) || local.Alert != tt.alert {
				t.Errorf("the server says %v, want %v", serr, tt.alert)
			}
			if tt.reason != nil && !errors.Is(serr, tt.reason) {
				t.Errorf("the server says %v, want %v", serr, tt.reason)
			}
			if again := server.Handshake(context.Background()); again != serr { //nolint:errorlint // the very same
				t.Errorf("asked again the server says %v", again)
			}
			if _, err := server.Read(make([]byte, 1)); err != serr { //nolint:errorlint // the very same
				t.Errorf("Read says %v", err)
			}
			if _, err := server.Write([]byte("x")); err != serr { //nolint:errorlint // the very same
				t.Errorf("Write says %v", err)
			}
		})
	}
}
