package psktls

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
)

// helloParts is a hello to be spoiled.
type helloParts struct {
	legacy      uint16
	session     []byte
	suites      []uint16
	compression []byte
	extensions  []part
	trailing    []byte
}

type part struct {
	number uint16
	body   []byte
}

func goodHello() helloParts {
	share := append([]byte{0, 36, 0, 0x1d, 0, 32}, testShare()...)
	return helloParts{legacy: legacyVersion, session: make([]byte, 32), suites: []uint16{0x1301}, compression: []byte{0}, extensions: []part{
		{extSupportedVersions, []byte{2, 3, 4}},
		{extSupportedGroups, []byte{0, 2, 0, 0x1d}},
		{extKeyExchangeModes, []byte{1, modeDHE}},
		{extKeyShare, share},
		{extPreSharedKey, offered("host-1", 32)},
	}}
}

// offered is the body of pre_shared_key with a binder of zeros.
func offered(identity string, binder int) []byte {
	var b cryptobyte.Builder
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(identity)) })
		b.AddUint32(0)
	})
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(make([]byte, binder)) })
	})
	return b.BytesOrPanic()
}

// testShare is a key share of X25519 whose private key is testPair's.
func testShare() []byte { return testPair().share.data }

func testPair() *keyPair {
	pair, err := newKeyPair(X25519, &counter{40}, nil)
	if err != nil {
		panic(err)
	}
	return pair
}

func (p helloParts) with(number uint16, body []byte) helloParts {
	p.extensions = append([]part(nil), p.extensions...)
	for i := range p.extensions {
		if p.extensions[i].number == number {
			p.extensions[i].body = body
			return p
		}
	}
	// Before pre_shared_key, which is the last.
	last := len(p.extensions) - 1
	p.extensions = append(p.extensions[:last:last], part{number, body}, p.extensions[last])
	return p
}

func (p helloParts) without(number uint16) helloParts {
	var kept []part
	for _, e := range p.extensions {
		if e.number != number {
			kept = append(kept, e)
		}
	}
	p.extensions = kept
	return p
}

func (p helloParts) bytes() []byte {
	var b cryptobyte.Builder
	b.AddUint8(messageClientHello)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(p.legacy)
		b.AddBytes(make([]byte, 32))
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.session) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, s := range p.suites {
				b.AddUint16(s)
			}
		})
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p.compression) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, e := range p.extensions {
				extension(b, e.number, func(b *cryptobyte.Builder) { b.AddBytes(e.body) })
			}
		})
		b.AddBytes(p.trailing)
	})
	return b.BytesOrPanic()
}

// record frames bytes as records of one kind, in clear.
func record(kind byte, data []byte) (out []byte) {
	for {
		n := min(len(data), maxPlaintext)
		out = append(out, kind, 3, 3, byte(n>>8), byte(n))
		out = append(out, data[:n]...)
		if data = data[n:]; len(data) == 0 {
			return out
		}
	}
}

func hs(message []byte) []byte { return record(recordHandshake, message) }

// alertFor gives bytes to an end and returns the alert that it answers with, -1 where it
// answers with none, and its error.
func alertFor(t *testing.T, end func(net.Conn, *Config) *Conn, config Config, in []byte) (int, error) {
	t.Helper()
	conn := &replayed{in: bytes.NewReader(in)}
	c := end(conn, withKey(config))
	err := c.Handshake(context.Background())
	out := conn.out.Bytes()
	for len(out) >= headerLen {
		n := headerLen + int(out[3])<<8 + int(out[4])
		if out[0] == recordAlert && n == headerLen+2 {
			return int(out[headerLen+1]), err
		}
		out = out[n:]
	}
	return -1, err
}

func TestServerAnswersWithAlerts(t *testing.T) {
	good := goodHello()
	change := func(f func(*helloParts)) []byte { p := goodHello(); f(&p); return hs(p.bytes()) }
	for _, tt := range []struct {
		name  string
		in    []byte
		alert Alert
		text  string
	}{
		{"a binder of zeros", hs(good.bytes()), AlertDecryptError, "not the one that is known"},
		{"unknown", hs(good.with(extPreSharedKey, offered("nobody", 32)).bytes()), AlertDecryptError, "not known"},
		{"an identity that can't be", hs(good.with(extPreSharedKey, offered("\x00\xff", 32)).bytes()), AlertDecryptError, "not known"},
		{"a binder of another hash", hs(good.with(extPreSharedKey, offered("host-1", 48)).bytes()), AlertDecryptError, ""},
		{"a binder too short", hs(good.with(extPreSharedKey, offered("host-1", 31)).bytes()), AlertDecodeError, "extension 41"},
		{"an identity of nothing", hs(good.with(extPreSharedKey, offered("", 32)).bytes()), AlertDecodeError, "extension 41"},
		{"two binders for one identity", hs(good.with(extPreSharedKey, append(offered("host-1", 32)[:14:14], append([]byte{0, 66}, bytes.Repeat(append([]byte{32}, make([]byte, 32)...), 2)...)...)).bytes()), AlertDecodeError, "extension 41"},
		{"no key", hs(good.without(extPreSharedKey).bytes()), AlertHandshakeFailure, ErrNoKeyOffered.Error()},
		{"no modes", hs(good.without(extKeyExchangeModes).bytes()), AlertMissingExtension, "psk_key_exchange_modes"},
		{"no groups", hs(good.without(extSupportedGroups).bytes()), AlertMissingExtension, "supported_groups"},
		{"no shares", hs(good.without(extKeyShare).bytes()), AlertMissingExtension, "key_share"},
		{"psk_ke only", hs(good.with(extKeyExchangeModes, []byte{1, 0}).bytes()), AlertHandshakeFailure, "no key exchange"},
		{"no versions", hs(good.without(extSupportedVersions).bytes()), AlertProtocolVersion, "does not offer TLS 1.3"},
		{"TLS 1.2", hs(good.with(extSupportedVersions, []byte{2, 3, 3}).bytes()), AlertProtocolVersion, "does not offer TLS 1.3"},
		{"suites that are not here", change(func(p *helloParts) { p.suites = []uint16{0x1304, 0x1302} }), AlertHandshakeFailure, "cipher suites"},
		{"groups that are not here", hs(good.with(extSupportedGroups, []byte{0, 2, 1, 0}).bytes()), AlertHandshakeFailure, "groups"},
		{"compression", change(func(p *helloParts) { p.compression = []byte{1, 0} }), AlertIllegalParameter, "compression"},
		{"a session id too long", change(func(p *helloParts) { p.session = make([]byte, 33) }), AlertDecodeError, "damaged"},
		{"no suites", change(func(p *helloParts) { p.suites = nil }), AlertDecodeError, "damaged"},
		{"trailing bytes", change(func(p *helloParts) { p.trailing = []byte{0} }), AlertDecodeError, "damaged"},
		{"an extension twice", change(func(p *helloParts) {
			p.extensions = append([]part{{extKeyExchangeModes, []byte{1, 1}}}, p.extensions...)
		}), AlertIllegalParameter, "twice"},
		{"a key that is not last", change(func(p *helloParts) { p.extensions = append(p.extensions, part{99, nil}) }), AlertIllegalParameter, "must be the last"},
		{"very many extensions", change(func(p *helloParts) {
			var many []part
			for i := range 200 {
				many = append(many, part{uint16(1000 + i), nil})
			}
			p.extensions = append(many, p.extensions...)
		}), AlertIllegalParameter, "more than 128"},
		{"an odd list", hs(good.with(extSupportedGroups, []byte{0, 3, 0, 0x1d, 0}).bytes()), AlertDecodeError, "extension 10"},
		{"another message", hs([]byte{messageFinished, 0, 0, 0}), AlertUnexpectedMessage, "of kind 20"},
		{"an empty record", record(recordHandshake, nil), AlertUnexpectedMessage, "empty"},
		{"a key_update", hs([]byte{messageKeyUpdate, 0, 0, 1, 0}), AlertUnexpectedMessage, "of kind 24"},
		{"data", record(recordApplicationData, []byte("x")), AlertUnexpectedMessage, "of kind 23"},
		{"a change_cipher_spec before all", record(recordChangeCipherSpec, []byte{1}), AlertUnexpectedMessage, "of kind 20"},
		{"a message too long", hs([]byte{messageClientHello, 0, 0x40, 1}), AlertIllegalParameter, "16385 bytes long"},
		{"a message of 16 MB", hs([]byte{messageClientHello, 0xff, 0xff, 0xff}), AlertIllegalParameter, "16777215 bytes long"},
		{"a record too long", []byte{recordHandshake, 3, 1, 0x40, 1}, AlertRecordOverflow, "longer than TLS allows"},
		{"data too long", []byte{recordApplicationData, 3, 3, 0x41, 1}, AlertRecordOverflow, "longer than TLS allows"},
		{"an alert of one byte", record(recordAlert, []byte{2}), AlertDecodeError, "an alert is 1 bytes long"},
	} {
		alert, err := alertFor(t, Server, Config{Groups: []Group{X25519}}, tt.in)
		var local *LocalAlert
		if alert != int(tt.alert) || !errors.As(err, &local) || local.Alert != tt.alert || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: alert %d %v, want %v and %q", tt.name, alert, err, tt.alert, tt.text)
		}
	}
}

// TestNotTLS: whoever does not speak TLS gets no answer, and the log says what came.
func TestNotTLS(t *testing.T) {
	for in, want := range map[string]string{
		"\xfe\x00\x00\xff\x00\x00\x00\x00": "clear text",
		"GET / HTTP/1.1\r\n":               `"GET /"`,
		"type=USER msg=audit(1.0:1): a=b":  `"type="`,
		"\x80\x2e\x01\x03\x01":             "not TLS",
	} {
		alert, err := alertFor(t, Server, Config{}, []byte(in))
		if alert != -1 || !errors.Is(err, ErrNotTLS) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: alert %d, %v", in, alert, err)
		}
	}
	if _, err := alertFor(t, Server, Config{}, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := alertFor(t, Client, Config{}, nil); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "does it listen with TLS there?") {
		t.Errorf("a server that closes: %v", err)
	}
}

// serverParts is a ServerHello to be spoiled; the client has fixed random bytes.
func serverParts(change func(*serverHello)) []byte {
	h := &serverHello{sessionID: knownSession(), suite: AES128GCM, share: keyShare{X25519, testShare()}, psk: true}
	change(h)
	raw, err := h.marshal()
	if err != nil {
		panic(err)
	}
	return raw
}

// knownSession is the session id of a client whose random bytes are 0, 1, 2 …
func knownSession() []byte {
	b := make([]byte, 64)
	_, _ = (&counter{}).Read(b)
	return b[32:]
}

// extended is a message with another extension at its end.
func extended(raw []byte, number uint16, body []byte) []byte {
	at := 4 + 2 + 32 + 1 + 32 + 2 + 1
	n := 4 + len(body)
	out := append(bytes.Clone(raw), byte(number>>8), byte(number), byte(len(body)>>8), byte(len(body)))
	out = append(out, body...)
	grow := func(i, n int) {
		v := int(out[i])<<8 + int(out[i+1]) + n
		out[i], out[i+1] = byte(v>>8), byte(v)
	}
	grow(2, n)
	grow(at, n)
	return out
}

func TestClientAnswersWithAlerts(t *testing.T) {
	good := serverParts(func(*serverHello) {})
	retry := func(change func(*serverHello)) []byte {
		return serverParts(func(h *serverHello) {
			h.random, h.psk, h.share = retryRandom, false, keyShare{group: P256}
			change(h)
		})
	}
	again := retry(func(*serverHello) {})
	change := func(f func([]byte)) []byte { raw := bytes.Clone(good); f(raw); return raw }
	for _, tt := range []struct {
		name  string
		in    []byte
		alert Alert
		text  string
	}{
		{"no key taken", serverParts(func(h *serverHello) { h.psk = false }), AlertMissingExtension, "did not take the pre-shared key"},
		{"another identity", serverParts(func(h *serverHello) { h.identity = 1 }), AlertIllegalParameter, "identity 1 of one"},
		{"another session", serverParts(func(h *serverHello) { h.sessionID = make([]byte, 32) }), AlertIllegalParameter, "session id"},
		{"a suite not offered", serverParts(func(h *serverHello) { h.suite = AES256GCM }), AlertIllegalParameter, "not offered"},
		{"a group without share", serverParts(func(h *serverHello) { h.share.group = P256 }), AlertIllegalParameter, "no share"},
		{"a share too short", serverParts(func(h *serverHello) { h.share.data = h.share.data[1:] }), AlertIllegalParameter, "31 bytes long"},
		{"a share that gives nothing", serverParts(func(h *serverHello) { h.share.data = make([]byte, 32) }), AlertIllegalParameter, "no good"},
		{"an extension not asked for", extended(good, 16, nil), AlertUnsupportedExt, "extension 16"},
		{"an extension that belongs elsewhere", extended(good, extSupportedGroups, []byte{0, 2, 0, 1}), AlertIllegalParameter, "extension 10"},
		{"an extension twice", extended(good, extPreSharedKey, []byte{0, 0}), AlertIllegalParameter, "twice"},
		{"a cookie in the answer", extended(good, extCookie, []byte{0, 1, 1}), AlertIllegalParameter, "extension 44"},
		{"TLS 1.2", change(func(b []byte) { b[4+2+32+1+32+2+1+2+5] = 3 }), AlertProtocolVersion, "does not speak TLS 1.3"},
		{"compression", change(func(b []byte) { b[4+2+32+1+32+2] = 1 }), AlertIllegalParameter, "compression"},
		{"cut", append([]byte{messageServerHello, 0, 0, 10}, good[4:14]...), AlertDecodeError, "damaged"},
		{"another message", []byte{messageClientHello, 0, 0, 0}, AlertUnexpectedMessage, "of kind 1"},
		{"a retry for a group not offered", retry(func(h *serverHello) { h.share.group = P521 }), AlertIllegalParameter, "not offered"},
		{"a retry for what is there", retry(func(h *serverHello) { h.share.group = X25519 }), AlertIllegalParameter, "has already"},
		{"two retries", append(bytes.Clone(again), again...), AlertUnexpectedMessage, "third hello"},
		{"a retry and another suite", append(bytes.Clone(again), serverParts(func(h *serverHello) { h.suite = ChaCha20Poly1305 })...), AlertIllegalParameter, "and then"},
		{"a retry with a key", extended(again, extPreSharedKey, []byte{0, 0}), AlertIllegalParameter, "extension 41"},
		{"a message behind the keys", append(bytes.Clone(good), messageEncryptedExtensions, 0, 0, 2, 0, 0), AlertUnexpectedMessage, "before the keys change"},
	} {
		alert, err := alertFor(t, Client, Config{Groups: []Group{X25519, P256}, random: &counter{}}, hs(tt.in))
		var local *LocalAlert
		if alert != int(tt.alert) || !errors.As(err, &local) || local.Alert != tt.alert || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: alert %d %v, want %v and %q", tt.name, alert, err, tt.alert, tt.text)
		}
	}
}

// TestPeersAlertsAreNamed: each alert that may come is an error with its name and what to
// do, before and within the handshake.
func TestPeersAlertsAreNamed(t *testing.T) {
	for number := range 256 {
		alert := Alert(number)
		_, err := alertFor(t, Client, Config{}, append(record(recordAlert, []byte{1, byte(AlertUserCanceled)}), record(recordAlert, []byte{2, byte(number)})...))
		if alert == AlertUserCanceled {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v: %v", alert, err)
			}
			continue
		}
		var peer *PeerAlert
		if !errors.As(err, &peer) || peer.Alert != alert || !strings.Contains(err.Error(), "the other end sent "+alert.String()) {
			t.Errorf("%v: %v", alert, err)
		}
		if known, ok := alerts[alert]; ok && (known.name == "" || known.means == "" || !strings.Contains(err.Error(), known.means)) {
			t.Errorf("%v: %v", alert, err)
		}
	}
}
