package psktls

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

// fuzzEnd gives bytes to one end as all that the network brings. Whatever they are, it
// neither panics nor hangs, and what it reads is no longer than what came.
func fuzzEnd(f *testing.F, end func(t *testing.T, conn *replayed, suite Suite) *Conn) {
	f.Fuzz(func(t *testing.T, in []byte, suite uint16) {
		if Suite(suite).algorithms() == nil {
			suite = uint16(AES128GCM)
		}
		conn := &replayed{in: bytes.NewReader(in)}
		c := end(t, conn, Suite(suite))
		if err := c.Handshake(context.Background()); err != nil {
			return
		}
		got, err := io.ReadAll(c)
		if len(got) > len(in) {
			t.Errorf("%d bytes from %d", len(got), len(in))
		}
		if err == nil {
			_, _ = c.Write(got)
		}
		_ = c.Close()
	})
}

func FuzzServer(f *testing.F) {
	for _, tt := range traces {
		client, _ := readTrace(f, tt.file)
		suite := AES128GCM
		if len(tt.client.Suites) > 0 {
			suite = tt.client.Suites[0]
		}
		f.Add(client, uint16(suite))
		f.Add(client[:len(client)/2], uint16(suite))
	}
	f.Add(hs(goodHello().bytes()), uint16(AES128GCM))
	fuzzEnd(f, func(_ *testing.T, conn *replayed, suite Suite) *Conn {
		return Server(conn, withKey(Config{Suites: []Suite{suite}, Groups: []Group{X25519MLKEM768, X25519, P256, P384}, random: &counter{0x80}}))
	})
}

func FuzzClient(f *testing.F) {
	for _, tt := range traces {
		_, server := readTrace(f, tt.file)
		suite := AES128GCM
		if len(tt.client.Suites) > 0 {
			suite = tt.client.Suites[0]
		}
		f.Add(server, uint16(suite))
		f.Add(server[:len(server)/2], uint16(suite))
	}
	fuzzEnd(f, func(_ *testing.T, conn *replayed, suite Suite) *Conn {
		config := Config{Suites: []Suite{suite}, random: &counter{}}
		for _, tt := range traces { // The groups that go with the suite, so that the traces open.
			if len(tt.client.Suites) > 0 && tt.client.Suites[0] == suite {
				config.Groups = tt.client.Groups
			}
		}
		return Client(conn, withKey(config))
	})
}

// FuzzHello reads any message as each hello; what is written again is read as the same.
func FuzzHello(f *testing.F) {
	f.Add(goodHello().bytes())
	f.Add(serverParts(func(*serverHello) {}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < 4 {
			return
		}
		if h, err := parseClientHello(raw); err == nil && h.psk && (h.truncated < 4 || h.truncated > len(raw) || len(h.identities) != len(h.binders) || len(h.identities) > maxIdentities) {
			t.Errorf("%+v", h)
		}
		_ = checkEncryptedExtensions(raw)
		h, err := parseServerHello(raw)
		if err != nil || !h.hasShare {
			return
		}
		again, err := h.marshal()
		if err != nil {
			t.Fatal(err)
		}
		same, err := parseServerHello(again)
		if err != nil || same.random != h.random || same.suite != h.suite || same.psk != h.psk || same.share.group != h.share.group || !bytes.Equal(same.share.data, h.share.data) {
			t.Errorf("%+v is %+v, %v", h, same, err)
		}
	})
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(strings.Repeat("5a", 32) + "\n"))
	f.Add([]byte(strings.Repeat("5A:", 32)))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parseKey(text)
		if (err == nil) != (len(key) >= MinKey && len(key) <= MaxKey) {
			t.Errorf("%x %v", key, err)
		}
	})
}

func FuzzAllowed(f *testing.F) {
	f.Add("# who\nhost-1 enabled key=/k/1\nhost-2 disabled key=/k/2\n")
	f.Add("host-1 enabled prod\r\n\nhost-2 disabled")
	f.Fuzz(func(t *testing.T, text string) {
		count := byte(0)
		a, err := parseAllowed("F", strings.NewReader(text), testKey, func(string) ([]byte, error) {
			count++
			return bytes.Repeat([]byte{count}, 32), nil
		})
		if err != nil {
			if !strings.HasPrefix(err.Error(), "F:") {
				t.Errorf("it does not say where: %v", err)
			}
			return
		}
		enabled := 0
		for identity := range a.clients {
			if CheckIdentity(identity) != nil {
				t.Errorf("identity %q", identity)
			}
			if key, err := a.Lookup(identity); (err == nil) != a.Enabled(identity) || err == nil && checkKey(key) != nil {
				t.Errorf("%q: %x %v", identity, key, err)
			}
			if a.Enabled(identity) {
				enabled++
			}
		}
		if enabled != a.Count() {
			t.Errorf("%d are enabled, %d counted", enabled, a.Count())
		}
	})
}
