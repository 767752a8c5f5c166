package psktls

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

// inject writes a record of any kind, under the end's keys.
func (c *Conn) inject(t testing.TB, kind byte, data ...byte) {
	t.Helper()
	record, err := c.out.seal(nil, kind, data)
	if err == nil {
		_, err = c.net.Write(record)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAlertsAfterTheHandshake(t *testing.T) {
	ticket := []byte{messageNewSessionTicket, 0, 0, 3, 1, 2, 3}
	for _, tt := range []struct {
		name  string
		from  string
		in    func(t *testing.T, c *Conn)
		alert Alert
		text  string
	}{
		{"a message unknown", "client", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, 99, 0, 0, 0) }, AlertUnexpectedMessage, "of kind 99"},
		{"a ticket for a server", "client", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, ticket...) }, AlertUnexpectedMessage, "of kind 4"},
		{"a hello again", "client", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, goodHello().bytes()...) }, AlertUnexpectedMessage, "of kind 1"},
		{"certificates asked for", "server", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, messageCertificateRequest, 0, 0, 0) }, AlertUnexpectedMessage, "of kind 13"},
		{"an update too long", "client", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, messageKeyUpdate, 0, 0, 2, 0, 0) }, AlertDecodeError, "2 bytes long"},
		{"an update of 2", "client", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, messageKeyUpdate, 0, 0, 1, 2) }, AlertIllegalParameter, "asks for 2"},
		{"something behind an update", "client", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, messageKeyUpdate, 0, 0, 1, 0, 1) }, AlertUnexpectedMessage, "follows a key_update"},
		{"data within a message", "client", func(t *testing.T, c *Conn) {
			c.inject(t, recordHandshake, messageKeyUpdate)
			c.inject(t, recordApplicationData, 1)
		}, AlertUnexpectedMessage, "within a handshake message"},
		{"data within a ticket", "server", func(t *testing.T, c *Conn) {
			c.inject(t, recordHandshake, ticket[:6]...)
			c.inject(t, recordApplicationData, 1)
		}, AlertUnexpectedMessage, "within a handshake message"},
		{"a ticket longer than one can be", "server", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake, messageNewSessionTicket, 2, 0, 1) }, AlertDecodeError, "131073 bytes long"},
		{"an empty message", "client", func(t *testing.T, c *Conn) { c.inject(t, recordHandshake) }, AlertUnexpectedMessage, "empty"},
		{"a change_cipher_spec", "client", func(t *testing.T, c *Conn) { _, _ = c.net.Write(record(recordChangeCipherSpec, []byte{1})) }, AlertUnexpectedMessage, "kind 20"},
		{"a change_cipher_spec under keys", "client", func(t *testing.T, c *Conn) { c.inject(t, recordChangeCipherSpec, 1) }, AlertUnexpectedMessage, "kind 20"},
		{"an alert in clear", "client", func(t *testing.T, c *Conn) { _, _ = c.net.Write(record(recordAlert, []byte{1, 0})) }, AlertUnexpectedMessage, "kind 21"},
		{"nothing but padding", "client", func(t *testing.T, c *Conn) { c.inject(t, 0, 0, 0, 0) }, AlertUnexpectedMessage, "padding"},
		{"a record changed", "client", func(t *testing.T, c *Conn) {
			record, _ := c.out.seal(nil, recordApplicationData, []byte("x"))
			record[7] ^= 1
			_, _ = c.net.Write(record)
		}, AlertBadRecordMAC, "does not open"},
		{"a record again", "client", func(t *testing.T, c *Conn) {
			record, _ := c.out.seal(nil, recordAlert, []byte{1, byte(AlertUserCanceled)})
			_, _ = c.net.Write(append(record, record...))
		}, AlertBadRecordMAC, "does not open"},
		{"a record too short", "client", func(t *testing.T, c *Conn) { _, _ = c.net.Write(record(recordApplicationData, make([]byte, 15))) }, AlertBadRecordMAC, "does not open"},
		{"a record too long", "client", func(t *testing.T, c *Conn) { c.inject(t, recordApplicationData, make([]byte, maxPlaintext+1)...) }, AlertRecordOverflow, "longer"},
		{"no record", "client", func(t *testing.T, c *Conn) { _, _ = c.net.Write([]byte("type=USER")) }, AlertUnexpectedMessage, "no kind that TLS has"},
		{"an alert too short", "client", func(t *testing.T, c *Conn) { c.inject(t, recordAlert, 1) }, AlertDecodeError, "1 bytes long"},
		{"many empty records", "client", func(t *testing.T, c *Conn) {
			for range maxQuiet + 1 {
				c.inject(t, recordApplicationData)
			}
		}, AlertUnexpectedMessage, "bring nothing"},
		{"many updates", "client", func(t *testing.T, c *Conn) {
			for range maxQuiet + 1 {
				c.inject(t, recordHandshake, messageKeyUpdate, 0, 0, 1, 1)
				if err := c.out.update(); err != nil {
					t.Error(err)
				}
			}
		}, AlertUnexpectedMessage, "bring nothing"},
		{"many tickets", "server", func(t *testing.T, c *Conn) {
			for range maxQuiet + 1 {
				c.inject(t, recordHandshake, ticket...)
			}
		}, AlertUnexpectedMessage, "bring nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := pair(t, Config{Groups: []Group{X25519}}, Config{})
			if tt.from == "server" {
				from, to = to, from
			}
			tt.in(t, from)
			_, err := to.Read(make([]byte, 10))
			var local *LocalAlert
			if !errors.As(err, &local) || local.Alert != tt.alert || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("it reads %v, want %v and %q", err, tt.alert, tt.text)
			}
			if _, again := to.Read(make([]byte, 10)); again != err { //nolint:errorlint // the very same
				t.Errorf("and then %v", again)
			}
			if _, werr := to.Write([]byte("x")); werr != err { //nolint:errorlint // the very same
				t.Errorf("it writes: %v", werr)
			}
			var peer *PeerAlert
			if _, err := from.Read(make([]byte, 10)); !errors.As(err, &peer) || peer.Alert != tt.alert {
				t.Errorf("the other end reads %v, want %v", err, tt.alert)
			}
		})
	}
}

// TestEncryptedPartIsChecked spoils what a server sends under the keys of the handshake.
func TestEncryptedPartIsChecked(t *testing.T) {
	for _, tt := range []struct {
		name     string
		messages func(h *serverShake, secret []byte) []byte
		alert    Alert
		text     string
	}{
		{"good", func(h *serverShake, secret []byte) []byte { return flight(h, secret, 0) }, 0, ""},
		{"groups told", func(h *serverShake, secret []byte) []byte { return flight(h, secret, 0, 0, 10, 0, 4, 0, 2, 0, 0x1d) }, 0, ""},
		{"groups told twice", func(h *serverShake, secret []byte) []byte { return flight(h, secret, 0, 0, 10, 0, 0, 0, 10, 0, 0) }, AlertIllegalParameter, "twice"},
		{"early data", func(h *serverShake, secret []byte) []byte { return flight(h, secret, 0, 0, 42, 0, 0) }, AlertUnsupportedExt, "extension 42"},
		{"a share", func(h *serverShake, secret []byte) []byte { return flight(h, secret, 0, 0, 51, 0, 0) }, AlertIllegalParameter, "extension 51"},
		{"damaged", func(h *serverShake, secret []byte) []byte { return flight(h, secret, 0, 0, 10, 0, 9) }, AlertDecodeError, "damaged"},
		{"a wrong finished", func(h *serverShake, secret []byte) []byte { return flight(h, secret, 1) }, AlertDecryptError, "changed on its way"},
		{"a short finished", func(h *serverShake, secret []byte) []byte {
			return append(bytes.Clone(encryptedExtensions), messageFinished, 0, 0, 1, 7)
		}, AlertDecodeError, "1 bytes long"},
		{"a certificate", func(h *serverShake, secret []byte) []byte {
			return append(bytes.Clone(encryptedExtensions), messageCertificate, 0, 0, 0)
		}, AlertUnexpectedMessage, "certificates"},
		{"more behind finished", func(h *serverShake, secret []byte) []byte {
			return append(flight(h, secret, 0), messageNewSessionTicket, 0, 0, 0)
		}, AlertUnexpectedMessage, "before the keys change"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := link(t)
			done := make(chan error, 1)
			go func() { done <- strangeServer(Server(b, withKey(Config{})), tt.messages) }()
			err := Client(a, withKey(Config{})).Handshake(context.Background())
			if serr := <-done; serr != nil {
				t.Fatal(serr)
			}
			var local *LocalAlert
			if tt.text == "" && err != nil || tt.text != "" && (!errors.As(err, &local) || local.Alert != tt.alert || !strings.Contains(err.Error(), tt.text)) {
				t.Errorf("%v, want %v and %q", err, tt.alert, tt.text)
			}
		})
	}
}

// flight is EncryptedExtensions with extensions, and Finished with its last byte changed by
// spoil.
func flight(h *serverShake, secret []byte, spoil byte, extensions ...byte) []byte {
	body := append([]byte{0, byte(len(extensions))}, extensions...)
	out := messageOf(messageEncryptedExtensions, body)
	h.transcript.Write(out)
	mac := finished(h.suite.hash, secret, h.sum())
	mac[len(mac)-1] ^= spoil
	return append(out, messageOf(messageFinished, mac)...)
}

// strangeServer is a server up to its ServerHello; then it sends the messages.
func strangeServer(c *Conn, messages func(*serverShake, []byte) []byte) error {
	choices, err := c.config.choices()
	if err != nil {
		return err
	}
	h := &serverShake{handshake: c.newHandshake(choices)}
	for _, step := range []func() error{h.readHello, h.choose, h.authenticate, h.answer} {
		if err := step(); err != nil {
			return err
		}
	}
	secret := h.secrets("c hs traffic", "s hs traffic").server
	if err := c.out.use(h.suite, bytes.Clone(secret)); err != nil {
		return err
	}
	if err := h.addRecords(messages(h, secret)); err != nil {
		return err
	}
	return h.send()
}

// TestEarlyDataIsPassedOver: a client may send some before it knows that nobody takes it
// (RFC 8446, section 4.2.10), after the first hello, also where a second follows.
func TestEarlyDataIsPassedOver(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server []Group
		bytes  int
		ok     bool
	}{
		{"at once", []Group{X25519}, 3000, true},
		{"before a second hello", []Group{P256}, 3000, true},
		{"very much", []Group{X25519}, 40000, false},
		{"very much before a second hello", []Group{P256}, 40000, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := link(t)
			server := Server(b, withKey(Config{Groups: tt.server}))
			done := make(chan error, 1)
			go func() { done <- server.Handshake(context.Background()) }()
			client := Client(a, withKey(Config{Groups: []Group{X25519, P256}}))
			err := earlyClient(client, tt.bytes)
			serr := <-done
			if tt.ok && (err != nil || serr != nil) || !tt.ok && serr == nil {
				t.Errorf("client %v, server %v", err, serr)
			}
		})
	}
}

func earlyClient(c *Conn, early int) error {
	choices, err := c.config.choices()
	if err != nil {
		return err
	}
	h := &clientShake{handshake: c.newHandshake(choices)}
	h.schedule = newSchedule(choices.hash, c.config.Key)
	c.in.greeted = true
	hello := goodHello()
	hello.suites = []uint16{0x1301, 0x1303}
	hello = hello.with(extSupportedGroups, []byte{0, 4, 0, 0x1d, 0, 0x17}).with(extEarlyData, nil)
	raw := hello.bytes()
	h.pairs = []*keyPair{testPair()}
	h.hello = &clientHello{raw: raw, truncated: len(raw) - 35, sessionID: make([]byte, 32), suites: h.suites, groups: h.groups, identities: [][]byte{[]byte("host-1")}}
	binder, err := h.binder(h.hello)
	if err != nil {
		return err
	}
	copy(raw[len(raw)-32:], binder)
	if err := h.add(raw); err != nil {
		return err
	}
	for ; early > 0; early -= 1000 {
		h.flight = append(h.flight, record(recordApplicationData, make([]byte, 1000))...)
	}
	if err := h.send(); err != nil {
		return err
	}
	if err := h.readServerHello(); err != nil {
		return err
	}
	if h.server.retry() {
		if err := h.again(); err != nil {
			return err
		}
	}
	if err := h.agree(); err != nil {
		return err
	}
	return h.finish()
}

func TestTicketsArePassedOver(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	ticket := append([]byte{messageNewSessionTicket, 0, 0x9c, 0x40}, make([]byte, 40000)...)
	for rest := append(ticket, ticket...); len(rest) > 0; { // the second begins where a record has the end of the first
		n := min(len(rest), 16000)
		server.inject(t, recordHandshake, rest[:n]...)
		rest = rest[n:]
	}
	talk(t, server, client)
}

func TestKeysAreRenewed(t *testing.T) {
	client, server := pair(t, Config{}, Config{})
	client.out.renewal, server.out.renewal = 3, 5
	first := bytes.Clone(client.out.secret)
	for range 40 {
		talk(t, client, server)
		talk(t, server, client)
	}
	if bytes.Equal(first, client.out.secret) || !bytes.Equal(client.out.secret, server.in.secret) {
		t.Error("the keys are the first ones, or not the other end's")
	}
	// Asked for, in three records.
	before := bytes.Clone(server.out.secret)
	for _, b := range []byte{messageKeyUpdate, 0, 0, 1, 1} {
		client.inject(t, recordHandshake, b)
	}
	if err := client.out.update(); err != nil {
		t.Fatal(err)
	}
	talk(t, client, server)
	if !bytes.Equal(before, server.out.secret) {
		t.Error("a Read has renewed the keys of writing")
	}
	talk(t, server, client)
	if bytes.Equal(before, server.out.secret) {
		t.Error("the update that was asked for did not come")
	}
}
