package psktls

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/auditfleet/auditfleet/internal/golden"
)

// counter are bytes that are as random as 0, 1, 2 …
type counter struct{ next byte }

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = c.next
		c.next++
	}
	return len(b), nil
}

// trace is what two ends sent, as text: a line for each TLS record, by whom and in
// hexadecimal.
type trace struct {
	mu   sync.Mutex
	text strings.Builder
}

type traced struct {
	net.Conn
	who   string
	trace *trace
}

func (c traced) Write(b []byte) (int, error) {
	c.trace.mu.Lock()
	for rest := b; len(rest) >= headerLen; {
		n := headerLen + int(rest[3])<<8 + int(rest[4])
		fmt.Fprintf(&c.trace.text, "%s %x\n", c.who, rest[:n])
		rest = rest[n:]
	}
	c.trace.mu.Unlock()
	return c.Conn.Write(b)
}

var traces = []struct {
	file           string
	client, server Config
}{
	{"x25519", Config{Groups: []Group{X25519}}, Config{Groups: []Group{X25519}}},
	{"retry", Config{Groups: []Group{X25519, P256}, Suites: []Suite{ChaCha20Poly1305}}, Config{Groups: []Group{P256}}},
	{"sha384", Config{Groups: []Group{P384}, Suites: []Suite{AES256GCM}}, Config{Groups: []Group{P384}, Suites: []Suite{AES256GCM}}},
	// ML-KEM's answer can't be made again: of this one, only the client's side is compared.
	{"hybrid", Config{}, Config{}},
}

// TestKnownAnswers compares every byte that both ends send with what they sent when the
// traces were recorded, when they had spoken with OpenSSL and GnuTLS, too. The random bytes
// are 00 01 02 … at the client, 80 81 82 … at the server.
func TestKnownAnswers(t *testing.T) {
	for _, tt := range traces {
		t.Run(tt.file, func(t *testing.T) {
			if tt.file == "hybrid" && !golden.Update() {
				t.Skip("its server is random: see TestKnownServer")
			}
			tt.client.random, tt.server.random = &counter{}, &counter{0x80}
			a, b := net.Pipe()
			record := &trace{}
			client := Client(traced{a, "client", record}, withKey(tt.client))
			server := Server(traced{b, "server", record}, withKey(tt.server))
			done := make(chan error, 1)
			go func() { done <- exchangeAsServer(server) }()
			if err := exchangeAsClient(client); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			golden.Compare(t, filepath.Join("testdata", tt.file+".trace"), record.text.String())
		})
	}
}

// exchangeAsClient is what follows in a trace: a record each way, each side's keys renewed.
func exchangeAsClient(c *Conn) error {
	if err := c.Handshake(context.Background()); err != nil {
		return err
	}
	c.out.renewal = 1
	for _, text := range []string{"one", "two"} {
		if _, err := c.Write([]byte(text)); err != nil {
			return err
		}
		got := make([]byte, 3)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != strings.ToUpper(text) {
			return fmt.Errorf("%q %w", got, err)
		}
	}
	return c.CloseWrite()
}

func exchangeAsServer(c *Conn) error {
	c.out.renewal = 1
	got := make([]byte, 3)
	for {
		if _, err := io.ReadFull(c, got); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		if _, err := c.Write(bytes.ToUpper(got)); err != nil {
			return err
		}
	}
}

// replayed answers as the other end did when the trace was recorded, and keeps what is
// written.
type replayed struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (r *replayed) Read(b []byte) (int, error)  { return r.in.Read(b) }
func (r *replayed) Write(b []byte) (int, error) { return r.out.Write(b) }

func (r *replayed) SetDeadline(time.Time) error      { return nil }
func (r *replayed) SetWriteDeadline(time.Time) error { return nil }
func (r *replayed) Close() error                     { return nil }

func readTrace(t testing.TB, name string) (client, server []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".trace"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		who, digits, _ := strings.Cut(line, " ")
		record, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		if who == "client" {
			client = append(client, record...)
		} else {
			server = append(server, record...)
		}
	}
	return client, server
}

// TestKnownServer gives a client what a server sent once, and compares what it sends.
func TestKnownServer(t *testing.T) {
	for _, tt := range traces {
		want, server := readTrace(t, tt.file)
		tt.client.random = &counter{}
		conn := &replayed{in: bytes.NewReader(server)}
		if err := exchangeAsClient(Client(conn, withKey(tt.client))); err != nil {
			t.Errorf("%s: %v", tt.file, err)
		}
		if got := conn.out.Bytes(); !bytes.Equal(got, want) {
			t.Errorf("%s: the client sends\n%x\nand then sent\n%x", tt.file, got, want)
		}
	}
}

// TestKeySchedule compares with a vector of NIST for TLS 1.3 with a pre-shared key and a
// key exchange (ACVP-Server, TLS-v1.3-KDF-RFC8446). Its "random" values stand for the
// messages.
func TestKeySchedule(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	messages := []byte(nil)
	said := func(s string) []byte {
		messages = append(messages, unhex(s)...)
		sum := AES128GCM.algorithms().hash()
		sum.Write(messages)
		return sum.Sum(nil)
	}
	compare := func(what string, got []byte, want string) {
		t.Helper()
		if !bytes.Equal(got, unhex(want)) {
			t.Errorf("%s is %x, want %s", what, got, want)
		}
	}
	s := newSchedule(AES128GCM.algorithms().hash, unhex("56288b726c73829f7a3e47b103837c8139acf552e7530c7a710b35ed41191698"))
	client := said("e9137679e582ba7c1db41cf725f86c6d09c8c05f297bad9a65b552eaf524fde4")
	compare("c e traffic", s.derive("c e traffic", client), "3272189698c3594d18f58efa3f12b638a249515099be7a2fa9836babe74f0111")
	s.advance(unhex("effe9ec26aa29fd750dfa6a10b944d74071595b27ee88887d5e11c84590b5cc3"))
	hello := said("23eccfd030790748c8f8d8a656fd98d717f1b62af3712f97211d2070b499f98a")
	compare("c hs traffic", s.derive("c hs traffic", hello), "b32306c3ce9932c460a1fe6c0f060593974842036b96fa45049b7352e71c2ad2")
	compare("s hs traffic", s.derive("s hs traffic", hello), "22787f8ca269d34bc549ac8ba19f2040938a3aa370d7cc9d60f720882b88d01b")
	s.advance(nil)
	done := said("c750eda6696cd101b142bd79e00e6ac8c5f2c0abc78dd64f4d991326659e9299")
	compare("c ap traffic", s.derive("c ap traffic", done), "47d7ea08397b5871154b0fe85584bcc30a87c69e84d69b56007c5b21f76493ba")
	compare("s ap traffic", s.derive("s ap traffic", done), "efbdb0c873c0480da57307083839a8984be25b9a8545e4fca029940fe2800565")
}

// TestFormatExample compares the hello that FORMAT.md shows with the first of the traces.
func TestFormatExample(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```hex\n")
	example, _, _ := strings.Cut(rest, "```")
	var got []byte
	for _, line := range strings.Split(example, "\n") {
		bare, _, _ := strings.Cut(strings.TrimSpace(line), "   ")
		digits, err := hex.DecodeString(strings.ReplaceAll(bare, " ", ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got = append(got, digits...)
	}
	client, _ := readTrace(t, "x25519")
	if want := client[:headerLen+int(client[3])<<8+int(client[4])]; !bytes.Equal(got, want) {
		t.Errorf("FORMAT.md shows\n%x\nand the client sends\n%x", got, want)
	}
	hello, err := parseClientHello(got[headerLen:])
	if err != nil || string(hello.identities[0]) != "host-1" || hello.truncated != len(hello.raw)-35 || len(hello.shares) != 1 {
		t.Errorf("%+v %v", hello, err)
	}
	compatible, _ := readTrace(t, "hybrid")
	if said := fmt.Sprintf("The record is %d bytes long", headerLen+int(compatible[3])<<8+int(compatible[4])); !strings.Contains(string(page), said) {
		t.Errorf("FORMAT.md does not say: %s", said)
	}
}
